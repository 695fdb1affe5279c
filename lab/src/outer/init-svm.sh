#!/bin/busybox sh
# PID 1 of the outer VM, first part: from the initramfs to the machine's root file system.
# What goes wrong here is on the console, in a line that starts with "lab: ".
b=/bin/busybox
fail() {
	echo "lab: $*"
	$b poweroff -f
}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do
	$b insmod "/modules/$module" || fail "cannot load $module"
done </lab/modules

# The machine's root, read-only, and above it a tmpfs for all that is written.
$b mkdir /lower /rw /new
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /lower ||
	fail "cannot mount the root file system"
$b mount -t tmpfs tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
	fail "cannot lay a tmpfs over the root file system"
for directory in proc sys dev run; do [ -d "/new/$directory" ] || $b mkdir "/new/$directory"; done
for mount in proc sys dev; do $b mount --move "/$mount" "/new/$mount"; done
$b mount -t tmpfs -o mode=755 tmpfs /new/run

# This kernel's modules, where modprobe looks.
modules=/new/lib/modules/$($b uname -r)
$b mkdir -p "$modules"
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 modules "$modules" ||
	fail "cannot mount the modules"

$b cp -r /lab /new/run/lab
$b cp $b /new/run/lab/busybox
exec $b switch_root /new /run/lab/busybox sh /run/lab/second
