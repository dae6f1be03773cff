/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo_run.c - run a program that draws, with a script on its stdin. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mcinfo.h"

extern char **environ;

static bool feed(int fd, const char *input, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, input, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		input += n;
		len -= (size_t)n;
	}
	return true;
}

static int start(char *const argv[], const int pipe_fd[2], const char *out_path, pid_t *pid_out)
{
	posix_spawn_file_actions_t act;
	int rc = posix_spawn_file_actions_init(&act);

	if (rc != 0)
		return rc;
	rc = posix_spawn_file_actions_adddup2(&act, pipe_fd[0], STDIN_FILENO);
	if (rc == 0 && out_path != NULL)
		rc = posix_spawn_file_actions_addopen(&act, STDOUT_FILENO, out_path, O_WRONLY | O_CREAT | O_TRUNC,
						      0666);
	if (rc == 0)
		rc = posix_spawnp(pid_out, argv[0], &act, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&act);
	return rc;
}

enum mc_info_run mc_info_run(char *const argv[], const char *input, size_t len, const char *out_path)
{
	int pipe_fd[2], rc, status = 0;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) != 0) {
		fprintf(stderr, "mcinfo: no pipe to %s: %s\n", argv[0], strerror(errno));
		return MC_INFO_RUN_FAILED;
	}
	signal(SIGPIPE, SIG_IGN); /* a program that ends early is seen by its status */
	rc = start(argv, pipe_fd, out_path, &pid);
	close(pipe_fd[0]);
	if (rc != 0) {
		close(pipe_fd[1]);
		if (rc == ENOENT)
			return MC_INFO_RUN_ABSENT;
		fprintf(stderr, "mcinfo: cannot start %s: %s\n", argv[0], strerror(rc));
		return MC_INFO_RUN_FAILED;
	}
	feed(pipe_fd[1], input, len);
	close(pipe_fd[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return MC_INFO_RUN_OK;
	fprintf(stderr, "mcinfo: %s ended with status %d\n", argv[0], WIFEXITED(status) ? WEXITSTATUS(status) : 128);
	return MC_INFO_RUN_FAILED;
}
