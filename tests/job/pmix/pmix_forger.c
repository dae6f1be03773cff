/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmix_forger.c - a PMIx client that claims to be another user: libpmix asks geteuid() and getegid() for what it
 * writes into its greeting, and finds these. Prints "in" and publishes a key if the server believes it; else ends with
 * a code that is not 0.
 */
#include <pmix.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static unsigned claimed(const char *name)
{
	const char *v = getenv(name);

	return v == NULL ? 0 : (unsigned)strtoul(v, NULL, 10);
}

__attribute__((visibility("default"))) uid_t geteuid(void)
{
	return claimed("FORGE_UID");
}

__attribute__((visibility("default"))) uid_t getuid(void)
{
	return claimed("FORGE_UID");
}

__attribute__((visibility("default"))) gid_t getegid(void)
{
	return claimed("FORGE_GID");
}

__attribute__((visibility("default"))) gid_t getgid(void)
{
	return claimed("FORGE_GID");
}

int main(void)
{
	pmix_proc_t me;
	pmix_info_t info;

	alarm(20); /* a server that does not answer is an answer, too */
	pmix_status_t rc = PMIx_Init(&me, NULL, 0);
	if (rc != PMIX_SUCCESS) {
		(void)printf("refused: %s\n", PMIx_Error_string(rc));
		return 3;
	}
	PMIX_INFO_LOAD(&info, "forged-key", "poison", PMIX_STRING);
	(void)printf("in: publish %s\n", PMIx_Error_string(PMIx_Publish(&info, 1)));
	return 0;
}
