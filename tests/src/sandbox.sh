# Runs a test program in fresh namespaces; given to `sh -c` by sandbox.rs.
#
#   $1 = move   in the caller's namespaces: joins the sandbox's cgroups, then makes the cgroup namespace
#   $1 = leave  leaves the root of that namespace, then makes the other namespaces
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
  # Its root is where we are now.
  exec unshare --cgroup sh -c "$HAKO_TESTS_SCRIPT" sandbox leave "$hierarchies" "$base" "$@"
fi

if [ "$stage" = leave ]; then
  # A v2 cgroup with a process of its own cannot hand controllers down, and the process that waits
  # for the namespaces to end stays behind: it waits in a leaf.
  printf '%s\n' "$hierarchies" | while IFS=: read -r name directory; do
    if [ -z "$name" ] && [ -n "$directory" ]; then
      mkdir "$directory/outside"
      echo $$ >"$directory/outside/cgroup.procs"
    fi
  done
  exec unshare --mount --propagation private --pid --fork --kill-child --net --uts --ipc \
    sh -c "$HAKO_TESTS_SCRIPT" sandbox settle "$hierarchies" "$base" "$@"
fi

mount -t proc -o nosuid,nodev,noexec proc /proc
ip link set lo up 2>/dev/null || true

# The same hierarchies, but seen from the sandbox's own cgroups as their roots.
umount -l -R /sys/fs/cgroup
if [ "$hierarchies" = ":${hierarchies#:}" ] && [ "$(printf '%s\n' "$hierarchies" | wc -l)" = 1 ]; then
  mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
  # The tests live in a leaf, too.
  mkdir /sys/fs/cgroup/tests
  echo $$ >/sys/fs/cgroup/tests/cgroup.procs
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
