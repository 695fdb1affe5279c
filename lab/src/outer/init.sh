#!/bin/busybox sh
# PID 1 of the outer VM, first part: from the initramfs to the machine's root file system, which another script lays out in
# /new. What goes wrong here is on the console, in a line that starts with "lab: ".
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
$b mkdir /new

