/*
 * Runs a command under the conditions of a rented container:
 *     rented [--root] [--gvisor-like] COMMAND [ARG...]
 *
 * No TUN device, no capability at all, no_new_privs, and what Docker's default seccomp profile
 * refuses to a process without capabilities (so: no namespaces, no mounts, no bpf, no io_uring, no
 * pidfd_getfd; ptrace, process_vm_* and seccomp itself are allowed, as there). By default as uid
 * 65534; --root keeps uid 0, still without capabilities, as many images do. --gvisor-like also
 * refuses seccomp's user notification (SECCOMP_FILTER_FLAG_NEW_LISTENER). Needs root. Keeps the
 * network namespace it is started in: ip netns exec a rented PROGRAM ...
 */
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534
#define NAMESPACES                                                                     \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET)
#define X32_BIT   0x40000000
#define MAX_RULES 256
#define MAX_CAPS  64

#ifdef __x86_64__
#define OWN_ARCH AUDIT_ARCH_X86_64
#else
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

static const int denied[] = {
#ifdef __x86_64__
	SYS_create_module,
	SYS_ioperm,
	SYS_iopl,
	SYS_sysfs,
	SYS_uselib,
	SYS_ustat,
#endif
	SYS_acct,
	SYS_add_key,
	SYS_bpf,
	SYS_chroot,
	SYS_clock_adjtime,
	SYS_clock_settime,
	SYS_delete_module,
	SYS_fanotify_init,
	SYS_finit_module,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fsopen,
	SYS_fspick,
	SYS_get_mempolicy,
	SYS_init_module,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_io_uring_setup,
	SYS_kcmp,
	SYS_kexec_file_load,
	SYS_kexec_load,
	SYS_keyctl,
	SYS_lookup_dcookie,
	SYS_mbind,
	SYS_mount,
	SYS_mount_setattr,
	SYS_move_mount,
	SYS_move_pages,
	SYS_open_by_handle_at,
	SYS_open_tree,
	SYS_perf_event_open,
	SYS_pidfd_getfd,
	SYS_pivot_root,
	SYS_process_madvise,
	SYS_quotactl,
	SYS_quotactl_fd,
	SYS_reboot,
	SYS_request_key,
	SYS_set_mempolicy,
	SYS_setdomainname,
	SYS_sethostname,
	SYS_setns,
	SYS_settimeofday,
	SYS_swapoff,
	SYS_swapon,
	SYS_syslog,
	SYS_umount2,
	SYS_unshare,
	SYS_userfaultfd,
	SYS_vhangup,
};

static struct sock_filter rules[MAX_RULES];
static unsigned short count;

static void check(bool is_well, const char *what)
{
	if (is_well)
		return;
	fprintf(stderr, "rented: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void add(struct sock_filter rule)
{
	errno = E2BIG;
	check(count < MAX_RULES, "the filter");
	rules[count++] = rule;
}

static void load(size_t offset)
{
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void refuse(int error)
{
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error));
}

static void refuse_call(long number, int error)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1));
	refuse(error);
}

/* Where one of these bits is set in an argument's lower half. */
static void refuse_bits(long number, int argument, uint32_t bits, int error)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4));
	load(offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (size_t)argument);
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
	refuse(error);
	load(offsetof(struct seccomp_data, nr));
}

/* Calls of another architecture end the program, as libseccomp has it. */
static void make_filter(bool is_gvisor)
{
	const struct sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD);

	load(offsetof(struct seccomp_data, arch));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0));
	add(kill);
	load(offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 2));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 1, 0));
	add(kill);
#endif
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
		refuse_call(denied[i], EPERM);
	refuse_bits(SYS_clone, 0, NAMESPACES, EPERM);
	refuse_call(SYS_clone3, ENOSYS);
	if (is_gvisor)
		refuse_bits(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER, EINVAL);
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

static void hide_tun(void)
{
	struct stat folder;

	check(unshare(CLONE_NEWNS) == 0, "unshare mounts");
	check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
	if (stat("/dev/net", &folder) == 0 && S_ISDIR(folder.st_mode))
		check(mount("none", "/dev/net", "tmpfs", 0, "size=0") == 0, "hide the TUN device");
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	check(prctl(PR_SET_SECUREBITS,
		    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED,
		    0, 0, 0) == 0,
	      "securebits");
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	check(syscall(SYS_capset, &header, none) == 0, "drop capabilities");
}

static void become_nobody(void)
{
	check(setgroups(0, NULL) == 0, "groups");
	check(setresgid(NOBODY, NOBODY, NOBODY) == 0, "group");
	check(setresuid(NOBODY, NOBODY, NOBODY) == 0, "user");
	check(setenv("HOME", "/tmp", 1) == 0, "HOME");
}

int main(int argc, char **argv)
{
	bool is_root = false, is_gvisor = false;
	struct sock_fprog filter;
	int at = 1;

	for (; at < argc; at++) {
		if (strcmp(argv[at], "--root") == 0)
			is_root = true;
		else if (strcmp(argv[at], "--gvisor-like") == 0)
			is_gvisor = true;
		else
			break;
	}
	if (at == argc || geteuid() != 0) {
		fprintf(stderr, "as root: rented [--root] [--gvisor-like] COMMAND [ARG...]\n");
		return 1;
	}
	hide_tun();
	make_filter(is_gvisor);
	for (int cap = 0; cap < MAX_CAPS; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* those that the kernel does not know fail */
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	if (is_root)
		drop_capabilities();
	else
		become_nobody();
	filter = (struct sock_fprog){ .len = count, .filter = rules };
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0, "seccomp");
	execvp(argv[at], argv + at);
	check(false, argv[at]);
}
