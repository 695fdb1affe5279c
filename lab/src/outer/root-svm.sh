# The machine's root, read-only, and above it a tmpfs for all that is written.
$b mkdir /lower /rw
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /lower ||
	fail "cannot mount the root file system"
$b mount -t tmpfs tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
	fail "cannot lay a tmpfs over the root file system"

# This kernel's modules, where modprobe looks.
modules=/new/lib/modules/$($b uname -r)
$b mkdir -p "$modules"
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 modules "$modules" ||
	fail "cannot mount the modules"
