# What an inner VM does once it is up, whichever disk it has: its network, its line, its end.
# The lines that start with "lab: guest NAME: " are the lab's; it reads them on the serial console.
say() { echo "lab: guest $guest: $*"; }
# From here on the console is ours: a line of the kernel's in the middle of one of ours would make it unreadable.
echo 1 >/proc/sys/kernel/printk
say "booted $(uname -r)"

ip link set lo up
ip addr add "$address/30" dev eth0 && ip link set eth0 up
tries=0
until ping -c 1 -W 1 "$peer" >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries = 20 ]; then break; fi
	usleep 100000
done
if [ $tries = 20 ]; then say "ping $peer: failed"; else say "ping $peer: ok"; fi

if [ -n "$shell" ]; then
	sh -c "$shell"
	say "exec: exit $?"
fi
if [ "$wait" = yes ]; then
	# Until the other side has pinged, too: the tenth word of the second line is InEchos (RFC 1213).
	tries=0
	until [ "$(awk '$1 == "Icmp:" { n = $10 } END { print n }' /proc/net/snmp)" -gt 0 ] || [ $tries = 300 ]; do
		tries=$((tries + 1))
		usleep 100000
	done
fi
sleep "$keep"
say "powering off"
poweroff -f
