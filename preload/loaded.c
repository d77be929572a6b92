/*
 * The shim sees calls of libc's functions. A library of Go's, or of Rust's with rustix, makes
 * system calls itself. Such libraries are told by what they have in memory:
 *
 *  - Go's by the note of its linker, or, where a reproducible build has none, by what it gives
 *    to C, if the network is among what they are made of: the name of its connect() is
 *    then in the table that stack traces are printed from;
 *  - others by their code (own_calls.c). Reading that takes time, so only code that is short,
 *    or that Rust's runtime library goes with, is read, and none of the distribution's,
 *    among whose libraries none but libc itself was found to make such calls.
 *
 * Objects are looked at once. A look at what has changed, before each dlsym(), costs the
 * dynamic linker's own count of what it has loaded.
 *
 * That is under a lock of the dynamic linker's that glibc does not make anew in a child of fork(),
 * unlike the one of dlsym() itself. So no thread is there on our behalf while another one forks:
 * the child would wait for it for ever.
 */
#include "preload/loaded.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "preload/binfmt.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/own_calls.h"
#include "preload/raw.h"
#include "preload/trap.h"
#include "shared/util.h"

#define LOOKED_MAX  4096u /* objects that are remembered, before all are forgotten */
#define LOOKED_ROOM 8192u /* a power of two */
#define SHORT_CODE  ((size_t)1 << 20)
#define NAMES_MAX   ((size_t)4 << 20) /* more of the symbols' names is not searched */
#define PATIENCE_MS 1000              /* with another thread's look, or its fork() */
#define YIELDS      100               /* before that is counted */

static bool is_wanted;
static _Atomic unsigned long long adds_seen;
static _Atomic bool is_looking;
static uint64_t looked[LOOKED_ROOM]; /* only who looks touches these; 0: free */
static unsigned looked_count;
static bool has_told;

static _Atomic unsigned inside; /* threads that ask the dynamic linker */
static _Atomic unsigned forking;
static _Atomic(pthread_t) forker; /* the latest: its own handlers may look up names */

/* ---- what is looked at ---- */

static uint64_t mark_of(const struct dl_phdr_info *object)
{
	uint64_t mark = (uintptr_t)object->dlpi_phdr ^ (uint64_t)object->dlpi_addr << 20;

	for (const char *at = object->dlpi_name; *at; at++)
		mark = (mark ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
	return mark ? mark : 1;
}

/* Is it new? From now on it is not. */
static bool is_new(const struct dl_phdr_info *object)
{
	uint64_t mark = mark_of(object);
	size_t i = mark % LOOKED_ROOM;

	for (; looked[i]; i = (i + 1) % LOOKED_ROOM)
		if (looked[i] == mark)
			return false;
	if (looked_count == LOOKED_MAX)
		return true;
	looked[i] = mark;
	looked_count++;
	return true;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* libc and what goes with it, wherever it lies; its calls are what the shim replaces. */
static bool is_libc(const char *path)
{
	static const char *const names[] = { "libc.so",   "libc-",      "ld-",         "ld64.",
					     "libc.musl", "libpthread", "libmeshwrap", "librt." };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (begins_with(base_name(path), names[i]))
			return true;
	return false;
}

static bool is_of_distribution(const char *path)
{
	return begins_with(path, "/usr/lib") || begins_with(path, "/lib");
}

/* ---- what it has in memory ---- */

static const void *memory_of(const struct dl_phdr_info *object, const ElfW(Phdr) * part)
{
	return (const void *)(object->dlpi_addr + part->p_vaddr);
}

static bool is_code(const ElfW(Phdr) * part)
{
	return part->p_type == PT_LOAD && (part->p_flags & (PF_R | PF_X)) == (PF_R | PF_X);
}

static bool is_readable(const ElfW(Phdr) * part)
{
	return part->p_type == PT_LOAD && (part->p_flags & PF_R);
}

/* The names of its symbols; NULL: it has none that can be read. */
static const char *names_of(const struct dl_phdr_info *object, size_t *len)
{
	const ElfW(Dyn) *entry = NULL;
	uintptr_t names = 0;

	*len = 0;
	for (unsigned i = 0; i < object->dlpi_phnum && !entry; i++)
		if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
			entry = memory_of(object, object->dlpi_phdr + i);
	for (; entry && entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_STRTAB)
			names = entry->d_un.d_ptr;
		if (entry->d_tag == DT_STRSZ)
			*len = MIN((size_t)entry->d_un.d_val, NAMES_MAX);
	}
	if (!names || !*len)
		return NULL;
	/* Some linkers leave there what the file says. */
	return (const char *)(names < object->dlpi_addr ? names + object->dlpi_addr : names);
}

static bool has_symbol(const struct dl_phdr_info *object, const char *name)
{
	size_t len;
	const char *names = names_of(object, &len);

	return names && memmem(names, len, name, strlen(name) + 1);
}

/* Tools that change files put notes where nothing is loaded, and the dynamic linker does not care.
 */
static bool is_loaded(const struct dl_phdr_info *object, const ElfW(Phdr) * note)
{
	const ElfW(Phdr) * part;

	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		part = object->dlpi_phdr + i;
		if (is_readable(part) && note->p_vaddr >= part->p_vaddr &&
		    note->p_vaddr - part->p_vaddr <= part->p_filesz &&
		    note->p_filesz <= part->p_filesz - (note->p_vaddr - part->p_vaddr))
			return true;
	}
	return false;
}

static bool has_go_note(const struct dl_phdr_info *object)
{
	const ElfW(Phdr) * part;

	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		part = object->dlpi_phdr + i;
		if (part->p_type == PT_NOTE && is_loaded(object, part) &&
		    binfmt_has_go_note(memory_of(object, part), part->p_filesz))
			return true;
	}
	return false;
}

static bool is_made_by_go(const struct dl_phdr_info *object)
{
	return has_go_note(object) || has_symbol(object, "_cgo_topofstack");
}

/*
 * The packages that make these calls; the linker drops functions that nobody calls. Before Go
 * 1.26 the names are among what is written at start only, and some linkers put them beside
 * the code.
 */
static bool has_go_network(const struct dl_phdr_info *object)
{
	static const char *const names[] = { "syscall.connect", "unix.connect" };
	const ElfW(Phdr) * part;

	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		part = object->dlpi_phdr + i;
		for (size_t n = 0; is_readable(part) && n < ARRAY_LEN(names); n++)
			if (memmem(memory_of(object, part), part->p_filesz, names[n],
				   strlen(names[n]) + 1))
				return true;
	}
	return false;
}

/* Rust's runtime library asks the unwinder what C++'s own asks for inside libstdc++ only. */
static bool is_made_by_rust(const struct dl_phdr_info *object)
{
	return has_symbol(object, "_Unwind_GetTextRelBase");
}

static size_t code_length(const struct dl_phdr_info *object)
{
	size_t len = 0;

	for (unsigned i = 0; i < object->dlpi_phnum; i++)
		if (is_code(object->dlpi_phdr + i))
			len += object->dlpi_phdr[i].p_filesz;
	return len;
}

static bool has_own_calls_in_code(const struct dl_phdr_info *object)
{
	const ElfW(Phdr) * part;

	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		part = object->dlpi_phdr + i;
		if (is_code(part) && own_calls_in_code(memory_of(object, part), part->p_filesz))
			return true;
	}
	return false;
}

static bool has_own_calls(const struct dl_phdr_info *object)
{
	size_t len = code_length(object);

	if (is_made_by_go(object))
		return has_go_network(object);
	return !is_of_distribution(object->dlpi_name) &&
	       (len <= SHORT_CODE || (len <= OWN_CALLS_CODE_MAX && is_made_by_rust(object))) &&
	       has_own_calls_in_code(object);
}

/* ---- the look ---- */

static void explain_served(const char *library)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, library, -1);
	explain_text(&e, ": network calls of its own are trapped");
	explain_end(&e);
}

/* All of its code. 0 or -errno. */
static int trap(const struct dl_phdr_info *object)
{
	const ElfW(Phdr) * part;
	uintptr_t from;
	int err = 0;

	for (unsigned i = 0; i < object->dlpi_phnum && !err; i++) {
		part = object->dlpi_phdr + i;
		from = object->dlpi_addr + part->p_vaddr;
		if (part->p_type == PT_LOAD && (part->p_flags & PF_X))
			err = trap_arm(from, from + part->p_memsz);
	}
	return err;
}

static void tell(const char *library)
{
	struct explain e;

	if (has_told)
		return;
	has_told = true;
	explain_begin(&e, library, -1);
	explain_text(&e, " makes network calls of its own, past libc. They go past the mesh; with "
			 "MESHWRAP_TRACE=1 the program is traced, and they do not");
	explain_end(&e);
}

/* The program's own file was looked at when it was started; the kernel's has no path. */
static int look_at(struct dl_phdr_info *object, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (!object->dlpi_name || !strchr(object->dlpi_name, '/') || !is_new(object) ||
	    is_libc(object->dlpi_name) || !has_own_calls(object))
		return 0;
	if (trap(object) == 0)
		explain_served(object->dlpi_name);
	else
		tell(object->dlpi_name);
	return 0;
}

static int count(struct dl_phdr_info *object, size_t size, void *arg)
{
	unsigned long long *adds = arg;

	(void)size;
	*adds = object->dlpi_adds;
	return 1;
}

static unsigned long long count_loaded(void)
{
	unsigned long long adds = 0;

	dl_iterate_phdr(count, &adds);
	return adds;
}

/* ---- fork() ---- */

/* The i-th time that another thread is waited for; false: no more. No place to be cancelled at. */
static bool wait_again(int i)
{
	const struct timespec ms = { 0, 1000000 };

	if (i < YIELDS)
		sched_yield();
	else
		raw_syscall(SYS_nanosleep, &ms, NULL);
	return i < YIELDS + PATIENCE_MS;
}

static void enter_linker(void)
{
	int saved = errno;

	for (int i = 0;; i++) {
		atomic_fetch_add(&inside, 1);
		if (atomic_load(&forking) == 0 ||
		    pthread_equal(atomic_load(&forker), pthread_self()) || i > YIELDS + PATIENCE_MS)
			break;
		atomic_fetch_sub(&inside, 1);
		wait_again(i);
	}
	errno = saved;
}

static void leave_linker(void)
{
	atomic_fetch_sub(&inside, 1);
}

static void before_fork(void)
{
	int saved = errno;

	atomic_store(&forker, pthread_self());
	atomic_fetch_add(&forking, 1);
	for (int i = 0; atomic_load(&inside) && wait_again(i); i++)
		;
	errno = saved;
}

static void after_fork(void)
{
	atomic_fetch_sub(&forking, 1);
}

static void in_child(void)
{
	atomic_store(&forking, 0);
	atomic_store(&inside, 0);
	atomic_store(&is_looking, false);
}

/* ---- when ---- */

/*
 * One thread at a time, and the others wait: what was loaded is not called before. One that
 * was looking when this process was forked is not here any more.
 */
static void take_turn(void)
{
	bool expected = false;

	for (int i = 0;
	     !atomic_compare_exchange_strong(&is_looking, &expected, true) && wait_again(i); i++)
		expected = false;
}

static void look(void)
{
	int saved = errno;
	unsigned long long adds;

	adds = count_loaded();
	if (adds == atomic_load_explicit(&adds_seen, memory_order_acquire))
		return;
	take_turn();
	adds = count_loaded();
	if (adds != atomic_load(&adds_seen)) {
		if (looked_count == LOOKED_MAX) {
			memset(looked, 0, sizeof(looked));
			looked_count = 0;
		}
		dl_iterate_phdr(look_at, NULL);
		atomic_store_explicit(&adds_seen, adds, memory_order_release);
	}
	atomic_store(&is_looking, false);
	errno = saved;
}

void loaded_look(void)
{
	if (!is_wanted)
		return;
	enter_linker();
	look();
	leave_linker();
}

void loaded_start(void)
{
	const char *wish = getenv("MESHWRAP_TRACE");

	if (getenv("MESHWRAP_TRAPPED"))
		trap_inherit();
	is_wanted = !(wish && strcmp(wish, "0") == 0);
	if (is_wanted && __register_atfork)
		__register_atfork(before_fork, after_fork, in_child, NULL);
	loaded_look();
}
