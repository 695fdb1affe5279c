# PID 1 of the outer VM, second part: with the machine's root file system, runs /run/lab/job.
# /run/lab/settings sets machine (svm: QEMU, vmx: Bochs), and forward=yes if there is an input.
b=/run/lab/busybox
. /run/lab/settings
mount_on() { # TYPE DIRECTORY [OPTIONS]
	$b mkdir -p "$2" && $b mount -t "$1" -o "${3:-defaults}" "$1" "$2" || echo "lab: cannot mount $1 on $2"
}
mount_on devpts /dev/pts mode=620,gid=5,ptmxmode=666
mount_on tmpfs /dev/shm mode=1777
mount_on tracefs /sys/kernel/tracing
mount_on debugfs /sys/kernel/debug
mount_on bpf /sys/fs/bpf
mount_on cgroup2 /sys/fs/cgroup
$b ln -s /proc/self/fd /dev/fd
$b ln -s /proc/self/fd/0 /dev/stdin
$b ln -s /proc/self/fd/1 /dev/stdout
$b ln -s /proc/self/fd/2 /dev/stderr
$b mkdir -p -m 1777 /run/lock /run/lab/out
if [ "$machine" = svm ]; then
	$b mount -t 9p -o trans=virtio,version=9p2000.L,rw,cache=mmap,msize=512000 out /run/lab/out ||
		echo "lab: cannot mount LAB_OUT"
fi
$b ip link set lo up
$b hostname outer
ulimit -l unlimited
ulimit -H -n 524288

# The ports: 1 tells the lab what happens, 2 and 3 carry the output, 4 the input.
if [ "$machine" = svm ]; then
	port() { echo /dev/vport*p"$1"; }
	for number in 1 2 3 4; do
		until [ -c "$(port $number)" ]; do $b usleep 20000; done
	done
else
	# Bochs has serial lines only, and the console is the first; there is no input.
	port() { echo /dev/ttyS"$1"; }
	for number in 1 2 3; do $b stty raw -echo 115200 <"$(port $number)"; done
fi
exec 5>"$(port 1)"
# A port can be opened only once at a time, a pipe as often as programs like to.
$b mkfifo /run/lab/stdin.pipe /run/lab/stdout.pipe /run/lab/stderr.pipe
$b cat /run/lab/stdout.pipe >"$(port 2)" 5>&- &
stdout=$!
$b cat /run/lab/stderr.pipe >"$(port 3)" 5>&- &
stderr=$!
stdin=/dev/null
if [ "$forward" = yes ]; then
	exec 6<"$(port 4)"
	# The first line is the lab's: before it the port may look closed because it is not connected yet.
	until read -r _ <&6; do $b usleep 50000; done
	$b cat <&6 >/run/lab/stdin.pipe 5>&- 6<&- &
	exec 6<&-
	stdin=/run/lab/stdin.pipe
fi

# All that the command starts goes into this group, and with it in the end: a daemon left behind
# would hold the output open.
group=/sys/fs/cgroup/lab
$b mkdir $group
echo up >&5
(
	exec 5>&-
	exec $b sh -c "echo 0 >$group/cgroup.procs; exec $b setsid $b env -i /bin/sh /run/lab/job"
) <$stdin >/run/lab/stdout.pipe 2>/run/lab/stderr.pipe &
wait $!
status=$?
echo 1 >$group/cgroup.kill
wait $stdout $stderr
cd /
if [ "$machine" = svm ]; then
	$b umount /run/lab/out || $b sync
elif ! { $b tar -c -C /run/lab/out . >/dev/lab-out; } 2>/run/lab/tar; then
	echo "failed $($b tail -n 1 /run/lab/tar)" >&5
else
	$b sync
fi
echo "exit $status" >&5
# The lab ends the emulator now; should it not, this does.
$b sleep 10
$b poweroff -f
