# Runs a script in the root; in namespaces of its own, so that the mounts go with it. Arguments: root, script, the script's.
set -eu
root=$1
shift
# objtool reads /proc.
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
script=$1
shift
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 sh -c "$script" script "$@"
