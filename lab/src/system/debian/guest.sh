# The debian system's part of what an inner VM does: see init.sh of the busybox system.
# The lines that start with "lab: guest NAME: " are the lab's; it reads them on the serial console.
. /sys/firmware/qemu_fw_cfg/by_name/opt/lab/job/raw
say() { printf '\nlab: guest %s: %s\n' "$guest" "$*"; }
# login: is on the console once agetty waits for a line: in read, or in select or poll (system calls 0,
# 270 and 7).
tries=0
until [ $tries = 600 ]; do
	getty=$(systemctl show --property MainPID --value serial-getty@ttyS0.service)
	if [ "$(cat "/proc/$getty/comm")" = agetty ]; then
		case $(cut -d ' ' -f 1 "/proc/$getty/syscall") in
		0 | 7 | 270) break ;;
		esac
	fi
	tries=$((tries + 1))
	sleep 0.1
done
# From here on the console is ours. Not opened earlier: the getty hangs up all who have.
exec >/dev/ttyS0 2>&1
echo 1 >/proc/sys/kernel/printk
# SIGRTMIN+21: no more lines of systemd's either, systemd(1).
kill -55 1
say "booted $(uname -r)"

tries=0
until ping -c 1 -W 1 "$peer" >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries = 60 ]; then break; fi
	sleep 0.1
done
if [ $tries = 60 ]; then say "ping $peer: failed"; else say "ping $peer: ok"; fi

if [ -n "$shell" ]; then
	sh -c "$shell"
	say "exec: exit $?"
fi
if [ "$wait" = yes ]; then
	# Until the other side has pinged, too: the tenth word of the second line is InEchos (RFC 1213).
	tries=0
	until [ "$(awk '$1 == "Icmp:" { n = $10 } END { print n }' /proc/net/snmp)" -gt 0 ] || [ $tries = 300 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
fi
sleep "$keep"
say "powering off"
systemctl --force poweroff
