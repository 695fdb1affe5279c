for directory in proc sys dev run; do [ -d "/new/$directory" ] || $b mkdir "/new/$directory"; done
for mount in proc sys dev; do $b mount --move "/$mount" "/new/$mount"; done
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b cp -r /lab /new/run/lab
$b cp $b /new/run/lab/busybox
exec $b switch_root /new /run/lab/busybox sh /run/lab/second
