/* SPDX-License-Identifier: BSD-3-Clause */
/* netaddr.h - under which addresses agents on other hosts reach this mcrun. */
#ifndef MCRUN_NETADDR_H
#define MCRUN_NETADDR_H

#include "hosts.h"

/* Is there a loopback interface that is up and has an address? True also where that cannot be told. */
bool mc_addr_loopback(void);
/* A listening socket on a port of the kernel's choice, for IPv6 and IPv4. */
int mc_addr_listen(uint16_t *port_out, struct mc_err *err);
/*
 * "10.0.0.1:4000,[fd00::1]:4000": for each host the address by which we route to it, then our others. Loopback only
 * when every host is this one. fixed: what the user said instead, a name or an address; may be NULL.
 */
char *mc_addr_candidates(const struct mc_hosts *hosts, const char *fixed, uint16_t port, struct mc_err *err);
/* The nth entry of such a list, connected to within limit_ns; -1: cannot, sentence written; -2: there is none. */
int mc_addr_connect(const char *list, uint32_t nth, int64_t limit_ns, struct mc_err *err);

#endif
