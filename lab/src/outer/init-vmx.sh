#!/bin/busybox sh
# PID 1 of the outer VM on Bochs, first part: from the initramfs to the file systems on the disks.
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

# Disks are known by their model: the kernel may find them in any order.
disk() { # MODEL
	tries=0
	while [ $tries != 100 ]; do
		for found in /sys/block/sd*; do
			case $($b cat "$found/device/model" 2>/dev/null) in
			"$1" | "$1 "*) echo "/dev/${found##*/}" && return ;;
			esac
		done
		tries=$((tries + 1))
		$b usleep 50000
	done
	fail "there is no disk $1"
}
own=$(disk LAB-OWN)
base=$(disk LAB-BASE)

# The machine's programs, what this run brings along, and above both a tmpfs for all that is written.
$b mkdir /base /own /rw /new
$b mount -t ext4 -o ro "$base" /base || fail "cannot mount $base"
$b mount -t ext4 -o ro "${own}1" /own || fail "cannot mount ${own}1"
$b mount -t tmpfs tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/own:/base,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
	fail "cannot lay a tmpfs over the file systems"
for system in debian busybox; do
	if $b grep -q "^disk=$system" /lab/settings; then
		$b ln -s "$(disk "LAB-$system")" "/dev/lab-$system"
	fi
done
$b ln -s "${own}2" /dev/lab-out
for mount in proc sys dev; do $b mount --move "/$mount" "/new/$mount"; done
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b cp -r /lab /new/run/lab
$b cp $b /new/run/lab/busybox
exec $b switch_root /new /run/lab/busybox sh /run/lab/second
