# Runs a test program in fresh namespaces; given to `sh -c` by sandbox.rs.
#
#   $1 = move   in the caller's namespaces: joins the sandbox's cgroups, then makes the namespaces
#   $1 = settle first process of the namespaces: gives them their own /proc, /run and cgroup mounts
#   $2 = list of "hierarchy:directory" lines, one cgroup hierarchy each ("" is the unified one)
#   $3 = base directory; the rest is the program
set -eu
stage=$1 hierarchies=$2 base=$3
shift 3

if [ "$stage" = move ]; then
  printf '%s\n' "$hierarchies" | while IFS=: read -r _ directory; do
    [ -n "$directory" ] && echo $$ >"$directory/cgroup.procs"
  done
  exec unshare --mount --propagation private --pid --fork --kill-child --cgroup --net --uts --ipc \
    sh -c "$HAKO_TESTS_SCRIPT" sandbox settle "$hierarchies" "$base" "$@"
fi

mount -t proc -o nosuid,nodev,noexec proc /proc
ip link set lo up 2>/dev/null || true

# The same hierarchies, but seen from the sandbox's own cgroups as their roots.
umount -l -R /sys/fs/cgroup
if [ "$hierarchies" = ":${hierarchies#:}" ] && [ "$(printf '%s\n' "$hierarchies" | wc -l)" = 1 ]; then
  mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
  # A cgroup with processes cannot hand controllers down: the tests live in a leaf.
  mkdir /sys/fs/cgroup/tests
  for process in $(cat /sys/fs/cgroup/cgroup.procs); do
    echo "$process" >/sys/fs/cgroup/tests/cgroup.procs 2>/dev/null || true
  done
else
  mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs /sys/fs/cgroup
  printf '%s\n' "$hierarchies" | while IFS=: read -r name _; do
    case $name in
      '') [ "${HAKO_TESTS_LEGACY:-}" ] && continue
          mkdir /sys/fs/cgroup/unified
          mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
      name=*) mkdir "/sys/fs/cgroup/${name#name=}"
          mount -t cgroup -o "none,$name" cgroup "/sys/fs/cgroup/${name#name=}" ;;
      *) mkdir "/sys/fs/cgroup/$name"
         mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" ;;
    esac
  done
fi

# A /run of its own, and the base directory bound to itself: mounts that a test leaves in either
# cannot reach the machine.
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount --bind "$base" "$base"
# As systemd leaves it: a runtime that forgets to cut propagation is caught.
mount --make-rshared /

# Not `exec`: this shell reaps what is orphaned inside.
"$@"
exit $?
