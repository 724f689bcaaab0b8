/* The floor: what a container with the default mounts costs when nothing else is done.
 *
 * usage: floor BUNDLE PROGRAM [ARGUMENT...]
 *
 * One clone3 with seven namespaces, every mount, mask and device of `runc spec`, pivot_root, execve,
 * wait. No configuration is read, no cgroup made, no capability set: a runtime does more, and cannot
 * be faster. Build: gcc -O2 -static -o floor floor.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(125);
}

#define TRY(call) do { if ((call) < 0) fail(#call); } while (0)

static void bind(const char *path, unsigned long flags)
{
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0) {
		if (errno == ENOENT)
			return;
		fail(path);
	}
	TRY(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_REC | flags, NULL));
}

static void mask(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode))
		TRY(mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0"));
	else
		TRY(mount("/dev/null", path, NULL, MS_BIND, NULL));
}

static void child(const char *bundle, char **argv)
{
	static const struct { const char *name; int major, minor; } nodes[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
		{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
	};
	static const char *masked[] = {
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
	};
	static const char *readonly[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	};
	static char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };

	TRY(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
	TRY(chdir(bundle));
	TRY(mount("rootfs", "rootfs", NULL, MS_BIND | MS_REC, NULL));
	TRY(chdir("rootfs"));
	TRY(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	TRY(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	mkdir("dev/pts", 0755);
	mkdir("dev/shm", 0755);
	mkdir("dev/mqueue", 0755);
	TRY(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	TRY(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"));
	TRY(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
	TRY(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL));
	umask(0);
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		TRY(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	TRY(symlink("/proc/self/fd", "dev/fd"));
	TRY(symlink("/proc/self/fd/0", "dev/stdin"));
	TRY(symlink("/proc/self/fd/1", "dev/stdout"));
	TRY(symlink("/proc/self/fd/2", "dev/stderr"));
	TRY(symlink("pts/ptmx", "dev/ptmx"));
	umask(022);
	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", MNT_DETACH));
	TRY(chdir("/"));
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
		bind(readonly[i], MS_RDONLY);
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
		mask(masked[i]);
	TRY(sethostname("floor", 5));
	execve(argv[0], argv, environment);
	fail(argv[0]);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: floor BUNDLE PROGRAM [ARGUMENT...]\n");
		return 125;
	}
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	TRY(pid);
	if (pid == 0)
		child(argv[1], argv + 2);
	int status;
	TRY(waitpid((pid_t)pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
