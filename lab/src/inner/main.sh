# What an inner VM of busybox does once it is up, whichever disk it has; the rest is in work.sh.
# The lines that start with "lab: guest NAME: " are the lab's; it reads them on the serial console.
say() { echo "lab: guest $guest: $*"; }
# From here on the console is ours: a line of the kernel's in the middle of one of ours would make it unreadable.
echo 1 >/proc/sys/kernel/printk
say "booted $(uname -r)"

ip link set lo up
ip addr add "$address/30" dev eth0 && ip link set eth0 up
pings=20
