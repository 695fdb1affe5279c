#!/bin/busybox sh
# PID 1 of an inner VM that lives in its initramfs. /lab/job sets guest, address, peer, wait, keep and shell.
b=/bin/busybox
$b --install -s /bin
export PATH=/bin HOME=/ TERM=vt100
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
. /lab/job
while read -r module; do insmod "/modules/$module" || echo "lab: cannot load $module"; done </lab/modules
. /lab/main
