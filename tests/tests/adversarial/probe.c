/* What a shell cannot do, for attacks from inside a container; one word chooses.
 *
 *   socket FAMILY         a socket of this family, by every way into the kernel
 *   mkdir PATH            mkdir(2), by every way into the kernel
 *   with-key PROGRAM...   executes a program with a key in its session keyring
 *   find-key              looks for that key
 *
 * Each way prints a line: its name, then "yes" or the error's number; or nothing where the kernel
 * has no such way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Arguments of 32-bit calls lie where 32 bits reach: the program is not position independent. */
static char path[256];

static long by_int80(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static void say(const char *way, long result)
{
	if (result >= 0)
		printf("%s yes\n", way);
	else
		printf("%s %ld\n", way, -result);
	fflush(stdout);
}

/* In a child: a kernel without 32-bit calls ends it, and so may a filter. */
static void attempt(const char *way, int native, long number, long a, long b)
{
	pid_t child = fork();
	if (child == 0) {
		long result;
		if (native) {
			result = syscall(number, a, b, 0);
			if (result < 0)
				result = -errno;
		} else {
			result = by_int80(number, a, b, 0);
		}
		say(way, result);
		_exit(0);
	}
	int status = 0;
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		printf("%s killed\n", way);
	fflush(stdout);
}

int main(int count, char **words)
{
	const char *what = count > 1 ? words[1] : "";
	const char *argument = count > 2 ? words[2] : "";
	if (!strcmp(what, "socket")) {
		long family = atol(argument);
		attempt("native", 1, SYS_socket, family, 1 /* SOCK_STREAM */ | (family == 38 ? 4 : 0));
		attempt("x32", 1, SYS_socket | 0x40000000, family, family == 38 ? 5 : 1);
		attempt("i386", 0, 359, family, family == 38 ? 5 : 1);
		return 0;
	}
	if (!strcmp(what, "mkdir")) {
		snprintf(path, sizeof path - 8, "%s", argument);
		size_t end = strlen(path);
		strcpy(path + end, "-native");
		attempt("native", 1, SYS_mkdir, (long)path, 0755);
		strcpy(path + end, "-x32");
		attempt("x32", 1, SYS_mkdir | 0x40000000, (long)path, 0755);
		strcpy(path + end, "-i386");
		attempt("i386", 0, 39, (long)path, 0755);
		return 0;
	}
	if (!strcmp(what, "with-key")) {
		if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "hako-tests", 0, 0, 0) < 0 ||
		    syscall(SYS_add_key, "user", "hako-tests-secret", "secret", 6, KEY_SPEC_SESSION_KEYRING) < 0) {
			perror("key");
			return 9;
		}
		execvp(words[2], words + 2);
		perror("exec");
		return 9;
	}
	if (!strcmp(what, "find-key")) {
		long key = syscall(SYS_request_key, "user", "hako-tests-secret", NULL, 0);
		say("key", key < 0 ? -errno : key);
		return 0;
	}
	fprintf(stderr, "probe: what?\n");
	return 9;
}
