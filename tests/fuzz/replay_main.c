/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay_main.c - runs a fuzz target without libFuzzer, in every build: each file of the corpus as it is, cut at every
 * length, with bytes changed, with pieces of other files. Deterministic: the same corpus gives the same runs.
 * fuzz_NAME_replay DIR|FILE...
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

enum { MUTATIONS_PER_FILE = 2000, CUTS_MAX = 1024, FILE_MAX = 1 << 20 };

struct input {
	char *path;
	uint8_t *data;
	size_t len;
};

struct corpus {
	struct input *item;
	size_t n, room;
};

static uint64_t runs_n;

/* The target gets an exact copy, so that the address sanitizer sees every read past the end. */
static void run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len == 0 ? 1 : len);
	if (copy == NULL) {
		fprintf(stderr, "replay: out of memory for %zu bytes\n", len);
		exit(1);
	}
	if (len > 0)
		memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	runs_n++;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool add_file(struct corpus *c, const char *path)
{
	FILE *f = fopen(path, "rb");
	if (f == NULL) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return false;
	}
	if (c->n == c->room) {
		c->room = c->room * 2 + 16;
		c->item = realloc(c->item, c->room * sizeof(*c->item));
	}
	struct input in = {.path = strdup(path), .data = malloc(FILE_MAX)};
	if (c->item == NULL || in.path == NULL || in.data == NULL) {
		fprintf(stderr, "replay: out of memory\n");
		exit(1);
	}
	in.len = fread(in.data, 1, FILE_MAX, f);
	fclose(f);
	uint8_t *fit = realloc(in.data, in.len == 0 ? 1 : in.len);
	if (fit != NULL)
		in.data = fit;
	c->item[c->n++] = in;
	return true;
}

static bool add_path(struct corpus *c, const char *path)
{
	struct dirent **entry;
	struct stat st;
	if (stat(path, &st) != 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return false;
	}
	if (!S_ISDIR(st.st_mode))
		return add_file(c, path);
	int n = scandir(path, &entry, NULL, alphasort); /* sorted: the same order everywhere */
	bool ok = n >= 0;
	for (int i = 0; i < n; i++) {
		char name[4096];
		int len = snprintf(name, sizeof(name), "%s/%s", path, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			ok = len > 0 && (size_t)len < sizeof(name) && add_file(c, name) && ok;
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return ok;
}

/* One change of a random kind; buf has room for twice FILE_MAX. Returns the new length. */
static size_t mutate(const struct corpus *c, uint8_t *buf, size_t len, uint64_t *state)
{
	static const uint8_t edge[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x7b, 0x2d, 0x39};
	uint64_t r = next_random(state);
	size_t at = len == 0 ? 0 : (size_t)(next_random(state) % len);
	switch (r % 5) {
	case 0: /* one bit */
		if (len > 0)
			buf[at] ^= (uint8_t)(1u << (r >> 8 & 7));
		break;
	case 1: /* one byte at an edge */
		if (len > 0)
			buf[at] = edge[(r >> 8) % sizeof(edge)];
		break;
	case 2: /* four bytes at an edge: lengths and counts */
		if (len >= at + 4)
			memset(buf + at, edge[(r >> 8) % 5], 4);
		break;
	case 3: { /* remove a piece */
		size_t cut = 1 + (size_t)((r >> 8) % 16);
		if (len >= at + cut) {
			memmove(buf + at, buf + at + cut, len - at - cut);
			len -= cut;
		}
		break;
	}
	default: { /* a piece of another file in place of the rest */
		const struct input *o = &c->item[(r >> 8) % c->n];
		size_t from = o->len == 0 ? 0 : (size_t)(next_random(state) % o->len);
		memcpy(buf + at, o->data + from, o->len - from);
		len = at + o->len - from;
		break;
	}
	}
	return len;
}

static void run_input(const struct corpus *c, const struct input *in, uint8_t *buf, uint64_t *state)
{
	run(in->data, in->len);
	size_t cuts = in->len < CUTS_MAX ? in->len : CUTS_MAX;
	for (size_t len = 0; len < cuts; len++)
		run(in->data, len);
	for (int i = 0; i < MUTATIONS_PER_FILE; i++) {
		size_t len = in->len;
		memcpy(buf, in->data, len);
		for (uint64_t k = 1 + next_random(state) % 4; k > 0; k--) {
			len = mutate(c, buf, len, state);
			if (len > FILE_MAX)
				len = FILE_MAX;
		}
		run(buf, len);
	}
}

int main(int argc, char **argv)
{
	struct corpus c = {0};
	struct timespec t0, t1;
	uint64_t state = 1;
	bool ok = true;
	if (LLVMFuzzerInitialize != NULL)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		ok = add_path(&c, argv[i]) && ok;
	if (!ok || c.n == 0) {
		fprintf(stderr, "replay: %s\n", c.n == 0 ? "the corpus is empty" : "part of the corpus cannot be read");
		return 1;
	}
	uint8_t *buf = malloc(2 * (size_t)FILE_MAX);
	if (buf == NULL)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (size_t i = 0; i < c.n; i++)
		run_input(&c, &c.item[i], buf, &state);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	double s = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
	printf("%zu files, %llu runs, %.0f runs/s\n", c.n, (unsigned long long)runs_n,
	       (double)runs_n / (s > 0 ? s : 1e-9));
	free(buf);
	for (size_t i = 0; i < c.n; i++) {
		free(c.item[i].path);
		free(c.item[i].data);
	}
	free(c.item);
	return 0;
}
