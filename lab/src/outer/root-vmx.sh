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
$b mkdir /base /own /rw
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
