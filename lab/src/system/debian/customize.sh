# Run by mmdebstrap when all packages are installed; $1 is the new system's root.
set -eu
root=$1
echo inner >"$root/etc/hostname"
echo '127.0.0.1 localhost inner' >"$root/etc/hosts"
echo 7ab0000000004e0000000000000000ab >"$root/etc/machine-id"
rm -f "$root/etc/apt/sources.list" "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
rm -rf "$root"/var/cache/* "$root"/var/log/*
chroot "$root" passwd --quiet --lock root

# What the lab wants of this guest comes by QEMU's fw_cfg device, whichever way it boots.
echo qemu_fw_cfg >"$root/etc/modules-load.d/lab.conf"
mkdir -p "$root/etc/systemd/network" "$root/usr/local/lib/lab" "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
cat >"$root/etc/systemd/system/lab-network.service" <<'EOF'
[Unit]
Description=Address of the lab's network
DefaultDependencies=no
After=systemd-modules-load.service local-fs.target
Before=systemd-networkd.service network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/lib/lab/network
EOF
cat >"$root/usr/local/lib/lab/network" <<'EOF'
. /sys/firmware/qemu_fw_cfg/by_name/opt/lab/job/raw
mkdir -p /run/systemd/network
printf '[Match]\nDriver=virtio_net\n\n[Network]\nAddress=%s/30\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' "$address" \
	>/run/systemd/network/lab.network
EOF
cat >"$root/etc/systemd/system/lab.service" <<'EOF'
[Unit]
Description=The lab's job
After=multi-user.target serial-getty@ttyS0.service

[Service]
# Not oneshot: the getty waits for jobs under way before it prompts.
Type=simple
ExecStart=/bin/sh /usr/local/lib/lab/guest
EOF
printf '%s' "$LAB_GUEST" >"$root/usr/local/lib/lab/guest"

enable() { # UNIT TARGET
	mkdir -p "$root/etc/systemd/system/$2.wants"
	ln -sf "/etc/systemd/system/$1" "$root/etc/systemd/system/$2.wants/$1"
}
enable lab-network.service sysinit.target
enable lab.service multi-user.target
chroot "$root" systemctl --quiet enable systemd-networkd.service
# Nothing that starts by the clock, waits for what never comes, or asks on another terminal.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer systemd-networkd-wait-online.service \
	getty@tty1.service getty-static.service
# The first boot is like every other: nothing is left to be brought up to date.
touch "$root/etc/.updated" "$root/var/.updated"
