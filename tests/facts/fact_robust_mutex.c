/* The kernel marks the word of a robust mutex when its owner is killed, in every mapping. */
#include "tests/facts/fact.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define OWNER_DIED 0x40000000u

static void hold_and_wait(pthread_mutex_t *mutex, int ready)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attr);
	pthread_mutex_lock(mutex);
	if (write(ready, "1", 1) == 1)
		pause();
	_exit(1);
}

static void test_the_word_of_a_killed_owner_is_marked(void **state)
{
	pthread_mutex_t *mutex =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile const uint32_t *word = (const uint32_t *)mutex; /* glibc: the first member */
	int pipes[2];
	char ready;
	pid_t pid;

	(void)state;
	assert_ptr_not_equal(mutex, MAP_FAILED);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		hold_and_wait(mutex, pipes[1]);
	assert_int_equal(read(pipes[0], &ready, 1), 1);
	assert_int_equal(*word & 0x3fffffff, pid);
	assert_int_equal(*word & OWNER_DIED, 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(*word & OWNER_DIED, OWNER_DIED);
	munmap(mutex, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_word_of_a_killed_owner_is_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
