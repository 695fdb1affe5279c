#!/bin/busybox sh
# PID 1 of an inner VM with a disk, second part: on the disk. The job is the lab's, by QEMU's fw_cfg device.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=vt100
. /sys/firmware/qemu_fw_cfg/by_name/opt/lab/job/raw
# Both ways with the disk itself, not with what the kernel remembers: what the lab once wrote is there, and what is written
# now comes back.
echo 1 >/proc/sys/kernel/printk
disk=failed
if sha256sum -cs /lab/data.sha256 && cp /lab/data /lab/copy && sync &&
	echo 3 >/proc/sys/vm/drop_caches && cmp /lab/data /lab/copy; then
	disk=ok
fi
echo "lab: guest $guest: disk $(sed -n 's|^/dev/\([^ ]*\) / .*|\1|p' /proc/mounts): $disk"
. /lab/main
