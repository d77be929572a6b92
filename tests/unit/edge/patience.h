/*
 * Calls that wait for a descriptor.
 *
 * Edges and programs share one table of descriptors in a test, and an edge that stows takes as
 * many as a group of sockets has for a moment, or all that are left. A program of a process of its
 * own would not see that. So who finds none asks again, for some seconds.
 */
#ifndef MESHWRAP_TESTS_EDGE_PATIENCE_H
#define MESHWRAP_TESTS_EDGE_PATIENCE_H

/* As the calls of these names; closed by exec. */
int patient_socket(int family, int type);
int patient_accept(int listener);
int patient_pipe(int end[2]);

#endif
