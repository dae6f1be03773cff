# SPDX-License-Identifier: BSD-3-Clause
# lib_slurm.sh - sourced after lib_hosts.sh: a Slurm of this test's own, one slurmctld and a slurmd per host, with a munged of
# its own (its socket is not the system's). slurm_up starts it; the end of the test ends it.
# shellcheck disable=SC2154 # work, me and so on come from lib_hosts.sh
need_slurm()
{
	local tool
	for tool in slurmctld slurmd srun sbatch sinfo; do
		command -v $tool >/dev/null || skip "$tool is not installed (slurm-wlm)"
	done
	command -v munged >/dev/null || skip "munged is not installed (munge)"
}

slurm_conf() # slurm_conf HOSTS: CPUs are a claim, the tests want more ranks than this machine has cores
{
	local n=$1 i
	cat >slurm.conf <<-END
		ClusterName=$me
		SlurmctldHost=${me}0(10.77.0.1)
		SlurmUser=root
		SlurmdUser=root
		AuthType=auth/munge
		CredType=cred/munge
		AuthInfo=socket=$work/munge/socket
		MpiDefault=none
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		SwitchType=switch/none
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core
		ReturnToService=2
		SlurmctldPort=6817
		SlurmdPort=6818
		StateSaveLocation=$work/state
		SlurmdSpoolDir=$work/spool.%n
		SlurmctldPidFile=$work/slurmctld.pid
		SlurmdPidFile=$work/slurmd.%n.pid
		SlurmctldLogFile=$work/slurmctld.log
		SlurmdLogFile=$work/slurmd.%n.log
		KillWait=2
		InactiveLimit=0
		MinJobAge=300
		Waittime=0
		SlurmdTimeout=60
		SlurmdParameters=config_overrides
		SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		TmpFS=$work/tmp.%n
		PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
	END
	for ((i = 0; i < n; i++)); do
		echo "NodeName=$me$i NodeAddr=10.77.0.$((i + 1)) CPUs=8 State=UNKNOWN"
	done >>slurm.conf
	printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint=/sys/fs/cgroup\n' >cgroup.conf
	: >mpi.conf
}

munge_up()
{
	install -d -m 700 munge
	head -c 128 /dev/urandom >munge/key
	chmod 400 munge/key
	chmod 711 "$work" munge # the way to the socket; what it leads past stays closed
	# as root and in the foreground; the directory is not where it expects it, so it is told not to mind
	daemon munged --foreground --force --socket="$work/munge/socket" --key-file="$work/munge/key" \
		--pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed"
	within 30000 test -S munge/socket || skip "munged does not start: $(tail -1 daemons.log)"
}

nodes_idle() { [ "$(on "${me}0" sinfo -h -o %D -t idle 2>/dev/null)" = "$1" ]; }

slurm_up() # slurm_up: on all hosts of hosts()
{
	local i
	mkdir -p state
	slurm_conf "$hosts_up"
	export SLURM_CONF=$work/slurm.conf
	munge_up
	daemon "$work/on" "${me}0" slurmctld -D -f "$SLURM_CONF"
	for ((i = 0; i < hosts_up; i++)); do
		daemon "$work/on" "$me$i" slurmd -D -N "$me$i" -f "$SLURM_CONF"
	done
	within 120000 nodes_idle "$hosts_up" || {
		tail -5 slurmctld.log slurmd.*.log daemons.log
		fail "Slurm does not come up"
	}
}

alloc() # alloc CODE ARG...: salloc -N hosts --ntasks-per-node=2 on the first host, then mcrun with ARGs inside it
{
	local code=$1 got=0
	shift
	timeout -k 5 "${RUN_LIMIT:-240}" "$work/on" "${me}0" salloc -Q -N "$hosts_up" --ntasks-per-node=2 "$mcrun" "$@" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	[ "$got" = "$code" ] || fail "exit code of mcrun $* under salloc is $got, expected $code"
}
