#!/bin/busybox sh
# PID 1 of an inner VM with a disk, first part: from the initramfs to the disk, whose user land is /lab/second.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do $b insmod "/modules/$module" || echo "lab: cannot load $module"; done </lab/modules
$b mkdir /disk
# IDE's driver looks for its disks in the background.
tries=0
until $b mount -t ext4 /dev/sda1 /disk 2>/dev/null || $b mount -t ext4 /dev/vda1 /disk 2>/dev/null; do
	tries=$((tries + 1))
	if [ $tries = 600 ]; then
		echo "lab: cannot mount the first partition of sda or vda; there are:"
		$b cat /proc/partitions
		$b poweroff -f
	fi
	$b usleep 50000
done
for mount in proc sys dev; do $b mount --move /$mount /disk/$mount; done
exec $b switch_root /disk /lab/second
