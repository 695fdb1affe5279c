# What an inner VM of debian does once it is up; the rest is in work.sh.
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
pings=60
