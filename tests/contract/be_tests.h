/* SPDX-License-Identifier: BSD-3-Clause */
/* be_tests.h - the tests of the other files, for the one list in test_backend.c. */
#ifndef MC_TEST_BE_TESTS_H
#define MC_TEST_BE_TESTS_H

#include <poll.h>

#include "be_side.h"

#define BE_POST_TEST_LIST(X)                                                                                           \
	X(post__argument_limits)                                                                                       \
	X(post__writes_and_reads)                                                                                      \
	X(post__takes_a_prefix)                                                                                        \
	X(post__zero_and_big_slices)                                                                                   \
	X(post__message_after_the_bytes)                                                                               \
	X(post__message_alone)                                                                                         \
	X(post__send_after_done_finds_the_bytes)                                                                       \
	X(post__stale_region)                                                                                          \
	X(cancel__one_done_and_no_message_of_a_failed_one)                                                             \
	X(send__bulk_apart)                                                                                            \
	X(post__prepared)                                                                                              \
	X(rmem_import__hostile_blob)                                                                                   \
	X(rmem_import__blob_of_another_rank)                                                                           \
	X(rmem_map__the_peers_bytes)                                                                                   \
	X(put_now__as_a_post_that_is_done)
#define BE_PEER_TEST_LIST(X)                                                                                           \
	X(ep_close__pending_end_canceled)                                                                              \
	X(ep_connect__to_oneself)                                                                                      \
	X(close__peer_gets_messages_then_down)                                                                         \
	X(close__with_traffic_both_ways)                                                                               \
	X(child__round_trips)                                                                                          \
	X(child__writes_and_reads)                                                                                     \
	X(child__graceful_exit_delivers)                                                                               \
	X(child__exit_after_sent_delivers)                                                                             \
	X(child__killed_in_flight)                                                                                     \
	X(child__killed_while_we_sleep)                                                                                \
	X(child__stale_region)                                                                                         \
	X(child__gone_before_connect)

#define BE_TEST_DECL(name) void name(void **state);
BE_POST_TEST_LIST(BE_TEST_DECL)
BE_PEER_TEST_LIST(BE_TEST_DECL)
#define BE_TEST_ENTRY(name) cmocka_unit_test(name),
#define BE_POST_TESTS       BE_POST_TEST_LIST(BE_TEST_ENTRY)
#define BE_PEER_TESTS       BE_PEER_TEST_LIST(BE_TEST_ENTRY)

#endif
