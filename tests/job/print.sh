#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcrun --print: YAML that is valid and has the fields that RDMA in a pod needs; a batch script that a shell takes, whose command line
# mcrun itself understands; the examples are held to the same.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
src=${TEST_SRC:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}

run 0 --print k8s --image reg.example/mc:1.2 --resource rdma/hca_shared_devices_a=2 --resource nvidia.com/gpu=8 \
	--resource memory=200Gi --resource shm=32Gi --resource hugepages-2Mi=64Gi --timeout 90 --on-failure continue \
	-x 'A=b "c": d' --role prefill:2 ./server --layers 0-15 'x: [y' "it's" : --role decode:4 -x B=2 not-installed --batch 64
mv out k8s.yaml
run 0 --print k8s -n 2 "$(printf 'tab\there')" # a strange name, nothing given
mv out plain.yaml
run 0 --print sbatch --resource nvidia.com/gpu=8 --resource memory=200Gi --timeout 90 --prefill 1 --decode 2 true "it's" 'a  b'
mv out job.sbatch
bash -n job.sbatch || fail "a shell does not take the batch script"
has job.sbatch '^#!/bin/bash$' 1
has job.sbatch '^#SBATCH --gres=gpu:8$' 1
has job.sbatch '^#SBATCH --mem=200G$' 1
has job.sbatch '^#SBATCH --time=3$' 1
has job.sbatch '^srun .*mcinfo doctor --for slurm'
line=$(sed -n 's/^exec mcrun //p' job.sbatch)
checks=$((checks + 1))
eval "\"$mcrun\" --dry-run $line" >out 2>err || fail "mcrun does not understand what it printed: $line"
has out 'MC_ROLE=decode .* run /[a-z/]*true .it.*s. .a  b.$' 2
run 0 --print sbatch --image a/b:1 -n 1 true
has out '^exec srun .*--container-image=a/b:1 mcrun -n 1 -- true$' 1

run 2 --print yaml -n 1 true
has err 'print is "yaml", but must be k8s or sbatch' 1
run 2 --print k8s --resource rdma/hca -n 1 true
has err 'resource is "rdma/hca", but must be NAME=AMOUNT' 1
for amount in x 12Q 1x -1 64GiB nodes=two nodes=0; do
	run 2 --print sbatch --resource "${amount/#[!n]*/memory=$amount}" -n 1 true
	has err '^mcrun: resource is "' 1
done
run 2 --print k8s --resource $'a\nb=1' -n 1 true
run 2 --print k8s -n 1 $'bad\xff'
has err 'not UTF-8' 1
run 2 --print sbatch -n 1 true $'two\nlines'
has err 'line break' 1
run 2 --print k8s
has err 'how many ranks' 1

for f in "$src"/examples/slurm/*.sbatch; do
	bash -n "$f" || fail "a shell does not take $f"
	checks=$((checks + 1))
done
if ! python3 -c 'import yaml' 2>/dev/null; then
	echo "python3 has no yaml: the manifests are not parsed"
	passed
	exit 0
fi
cat >check.py <<'END'
import sys, yaml
def pod(doc):
	assert doc["apiVersion"] == "batch/v1" and doc["kind"] == "Job", doc.get("kind")
	return doc["spec"]["template"]["spec"]
def check(p):
	assert p["hostNetwork"] is True and p["dnsPolicy"] == "ClusterFirstWithHostNet" and p["restartPolicy"] == "Never"
	for c in p["containers"]:
		s = c["securityContext"]
		assert "IPC_LOCK" in s["capabilities"]["add"] and not s.get("privileged", False), s
		limits = c["resources"]["limits"]
		assert any("/" in k and not k.endswith("/gpu") for k in limits), ("no RDMA resource", limits)
		assert all(isinstance(v, (str, int)) for v in limits.values())
		assert "memory" in limits
		shm = [m["name"] for m in c["volumeMounts"] if m["mountPath"] == "/dev/shm"]
		v = {v["name"]: v for v in p["volumes"]}
		assert v[shm[0]]["emptyDir"]["medium"] == "Memory" and "sizeLimit" in v[shm[0]]["emptyDir"]
		assert all(isinstance(w, str) for w in c["command"]) and c["command"][0] == "mcrun"
docs = [d for f in sys.argv[1:] for d in yaml.safe_load_all(open(f)) if d]
assert docs
for d in docs:
	if d["kind"] == "Job":
		check(pod(d))
if sys.argv[1] == "k8s.yaml":
	p = pod(docs[0])
	c = p["containers"][0]
	assert c["image"] == "reg.example/mc:1.2" and docs[0]["metadata"]["name"] == "mc-server"
	assert c["command"] == ["mcrun", "--timeout", "90", "--on-failure", "continue", "-x", 'A=b "c": d', "--role", "prefill:2", "--",
		"./server", "--layers", "0-15", "x: [y", "it's", ":", "--role", "decode:4", "-x", "B=2", "--", "not-installed", "--batch", "64"], c["command"]
	l = c["resources"]["limits"]
	assert l == {"rdma/hca_shared_devices_a": "2", "nvidia.com/gpu": "8", "memory": "200Gi", "hugepages-2Mi": "64Gi"}, l
	v = {v["name"]: v for v in p["volumes"]}
	assert v["shm"]["emptyDir"]["sizeLimit"] == "32Gi" and v["huge"]["emptyDir"]["medium"] == "HugePages"
END
for f in k8s.yaml plain.yaml "$src"/examples/k8s-*.yaml; do
	checks=$((checks + 1))
	python3 check.py "$f" || fail "$f is not as it should be: $(cat "$f")"
done
passed
