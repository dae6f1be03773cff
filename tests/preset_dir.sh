#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: preset_dir.sh PRESET   the build folder of a preset in CMakePresets.json
case $1 in
release) echo build ;;
*) echo "build-$1" ;;
esac
