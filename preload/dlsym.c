/*
 * dlsym(), by which a program that has loaded a library gets at it: the moment to look
 * at what was loaded, before any of it is called.
 *
 * Who asks a handle for a function of libc's that we replace is given ours, if what lies in
 * the handle is the one that ours calls: Python's ctypes, Mono and others ask
 * libc.so.6 itself. So a library behind us that wraps the function, and asks
 * libc for the real one, is given that, and nothing goes round in circles.
 *
 * It is assembly, since libc's own tells by the address it returns to who asks (RTLD_NEXT
 * is behind that one): it is jumped to, and finds the caller's. dlopen() would be the
 * better moment, as its libraries' constructors have run by now, but it cannot be replaced in
 * this way: where it looks for a file depends on who asks, too, and we would be
 * needed behind it.
 *
 * Who replaces dlsym() cannot ask it for the real one. In glibc dlvsym() can be asked; musl has
 * none, and is looked through by hand where a shim that was built for glibc gets into it. The
 * one that is built for musl leaves the name alone.
 */
#include <features.h>

#ifdef __GLIBC__
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "preload/loaded.h"
#include "preload/shim.h"
#include "shared/util.h"

#pragma weak dlvsym

typedef void *dlsym_function(void *handle, const char *name);

/* What we replace, as exports.map has it, but for dlsym() itself; sorted. */
/* clang-format off */
#define NAMES(X) \
	X(__connect) X(__recv_chk) X(__recvfrom_chk) X(__res_nquery) \
	X(__res_nquerydomain) X(__res_nsearch) X(__res_nsend) X(__res_query) \
	X(__res_querydomain) X(__res_search) X(__res_send) X(accept) X(accept4) \
	X(bind) X(connect) X(execl) X(execle) X(execlp) X(execv) X(execve) \
	X(execveat) X(execvp) X(execvpe) X(fexecve) X(freeaddrinfo) \
	X(freeifaddrs) X(getaddrinfo) X(getaddrinfo_a) X(gethostbyaddr) \
	X(gethostbyaddr_r) X(gethostbyname) X(gethostbyname2) X(gethostbyname2_r) \
	X(gethostbyname_r) X(getifaddrs) X(getnameinfo) X(getpeername) \
	X(getsockname) X(getsockopt) X(if_indextoname) X(if_nameindex) \
	X(if_nametoindex) X(ioctl) X(pidfd_spawn) X(pidfd_spawnp) X(popen) X(posix_spawn) \
	X(posix_spawn_file_actions_addchdir) X(posix_spawn_file_actions_addchdir_np) \
	X(posix_spawn_file_actions_addfchdir) X(posix_spawn_file_actions_addfchdir_np) \
	X(posix_spawn_file_actions_destroy) X(posix_spawn_file_actions_init) \
	X(posix_spawnp) X(pthread_sigmask) X(recv) X(recvfrom) X(recvmmsg) \
	X(recvmsg) X(res_nquery) X(res_nquerydomain) X(res_nsearch) X(res_nsend) \
	X(res_query) X(res_querydomain) X(res_search) X(res_send) X(scandir) \
	X(scandir64) X(sendmmsg) \
	X(sendmsg) X(sendto) X(setsockopt) X(sigaction) X(signal) X(sigprocmask) \
	X(syscall) X(system)
/* clang-format on */

#define DECLARE(name) extern const char ours_##name[] __asm__(#name);
NAMES(DECLARE)

#define ENTRY(name) { #name, ours_##name },
static const struct replaced {
	const char *name, *ours;
} replaced[] = { NAMES(ENTRY) };

static dlsym_function *_Atomic found;

static dlsym_function *in_glibc(void)
{
	static const char *const versions[] = { "GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5" };
	dlsym_function *real = NULL;

	for (size_t i = 0; !real && i < ARRAY_LEN(versions); i++)
		real = (dlsym_function *)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
	return real;
}

/* The part of an object that an entry points to; some dynamic linkers leave what the file says. */
static const void *part_of(const struct dl_phdr_info *object, ElfW(Addr) at)
{
	return (const void *)(at < object->dlpi_addr ? at + object->dlpi_addr : at);
}

static int find_in(struct dl_phdr_info *object, size_t size, void *arg)
{
	const ElfW(Dyn) *entry = NULL;
	const ElfW(Sym) *symbols = NULL;
	const uint32_t *hash = NULL;
	const char *names = NULL;
	dlsym_function **real = arg, *at;

	(void)size;
	for (unsigned i = 0; i < object->dlpi_phnum && !entry; i++)
		if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
			entry = (const void *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
	for (; entry && entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_SYMTAB)
			symbols = part_of(object, entry->d_un.d_ptr);
		if (entry->d_tag == DT_STRTAB)
			names = part_of(object, entry->d_un.d_ptr);
		if (entry->d_tag == DT_HASH)
			hash = part_of(object, entry->d_un.d_ptr);
	}
	for (uint32_t i = 1; symbols && names && hash && i < hash[1] && !*real; i++) {
		if (symbols[i].st_shndx == SHN_UNDEF || strcmp(names + symbols[i].st_name, "dlsym"))
			continue;
		at = (dlsym_function *)(object->dlpi_addr + symbols[i].st_value);
		*real = at == dlsym ? NULL : at;
	}
	return *real != NULL;
}

static void *find_nothing(void *handle, const char *name)
{
	(void)handle;
	(void)name;
	return NULL;
}

static dlsym_function *real_one(void)
{
	dlsym_function *real = atomic_load_explicit(&found, memory_order_relaxed);

	if (real)
		return real;
	if (dlvsym)
		real = in_glibc();
	else
		dl_iterate_phdr(find_in, &real);
	atomic_store_explicit(&found, real, memory_order_relaxed);
	return real ? real : find_nothing;
}

static int compare(const void *name, const void *entry)
{
	return strcmp(name, ((const struct replaced *)entry)->name);
}

static const struct replaced *find_replaced(const char *name)
{
	return bsearch(name, replaced, ARRAY_LEN(replaced), sizeof(replaced[0]), compare);
}

/* The program's own question comes last: dlerror() tells of that. */
static void *find_in_handle(void *handle, const char *name)
{
	dlsym_function *real = real_one();
	void *next = shim_is_on() ? real(RTLD_NEXT, name) : NULL;
	void *result = real(handle, name);

	return result && result == next ? (void *)find_replaced(name)->ours : result;
}

/* What dlsym() does before it goes on to the result, which is the real one but for our names. */
dlsym_function *dlsym_look(void *handle, const char *name) __attribute__((used));
dlsym_function *dlsym_look(void *handle, const char *name)
{
	loaded_look();
	if (handle != RTLD_NEXT && handle != RTLD_DEFAULT && find_replaced(name))
		return find_in_handle;
	return real_one();
}

/* The formatter takes the strings for one long expression. */
/* clang-format off */
#if defined(__x86_64__)
__asm__(".text\n"
	".globl dlsym\n"
	".type dlsym, @function\n"
	"dlsym:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	push %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	sub $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call dlsym_look\n"
	"	add $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	jmp *%rax\n"
	"	.cfi_endproc\n"
	".size dlsym, . - dlsym\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl dlsym\n"
	".type dlsym, %function\n"
	"dlsym:\n"
	"	.cfi_startproc\n"
	"	hint 34\n" /* a place that may be jumped to */
	"	stp x29, x30, [sp, -32]!\n"
	"	.cfi_def_cfa_offset 32\n"
	"	.cfi_offset 29, -32\n"
	"	.cfi_offset 30, -24\n"
	"	stp x0, x1, [sp, 16]\n"
	"	bl dlsym_look\n"
	"	mov x16, x0\n"
	"	ldp x0, x1, [sp, 16]\n"
	"	ldp x29, x30, [sp], 32\n"
	"	.cfi_def_cfa_offset 0\n"
	"	.cfi_restore 29\n"
	"	.cfi_restore 30\n"
	"	br x16\n"
	"	.cfi_endproc\n"
	".size dlsym, . - dlsym\n");
#endif
/* clang-format on */
#endif
