/* SPDX-License-Identifier: BSD-3-Clause */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Runs in the child while the parent's memory is still shared: system calls only. */
static int child_setup(const struct mc_spawn *s, pid_t parent)
{
	sigset_t none;
	int fd[3];

	(void)setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, s->death_sig == 0 ? SIGKILL : s->death_sig) != 0 || getppid() != parent)
		return errno == 0 ? ECHILD : errno;
	if (s->bind != NULL && sched_setaffinity(0, sizeof(*s->bind), (const cpu_set_t *)(const void *)s->bind) != 0)
		return errno;
	if (s->cgroup != NULL) {
		int procs = open(s->cgroup, O_WRONLY | O_CLOEXEC);

		if (procs < 0 || write(procs, "0", 1) != 1)
			return errno;
		(void)close(procs);
	}
	for (int i = 0; i < 3; i++) { /* first out of the way of 0..2, which may be among them */
		fd[i] = fcntl(s->fd[i], F_DUPFD_CLOEXEC, 3);
		if (fd[i] < 0)
			return errno;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(fd[i], i) < 0)
			return errno;
	(void)signal(SIGPIPE, SIG_DFL); /* mcrun ignores these two; what mcrun's caller ignores (nohup) stays so */
	(void)signal(SIGXFSZ, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

pid_t mc_spawn(struct mc_spawn *s)
{
	pid_t parent = getpid();

	s->error = 0;
	/* vfork: a copy of the page tables per rank would be the dearest part of the start; signals are blocked */
	pid_t pid = vfork();
	if (pid == 0) {
		s->error = child_setup(s, parent);
		if (s->error == 0) {
			(void)execve(s->path, s->argv, s->env);
			s->error = errno;
		}
		_exit(127);
	}
	if (pid < 0) {
		s->error = errno;
		return -1;
	}
	return s->error == 0 ? pid : -1;
}
