# Run by mmdebstrap before the kernel is installed, as root of a user namespace or of the machine; $1 is the new system's root.
set -eu
# An initramfs with what an inner VM has, and not with every driver there is: the emulator would unpack it for minutes.
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
printf 'MODULES=list\nCOMPRESS=gzip\nRESUME=none\n' >"$1/etc/initramfs-tools/conf.d/lab"
cat >"$1/etc/initramfs-tools/hooks/lab" <<'EOF'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules ata_piix sd_mod virtio_pci virtio_blk ext4
EOF
chmod 755 "$1/etc/initramfs-tools/hooks/lab"
# Read by the initramfs' own fsck, too.
echo "UUID=$LAB_UUID / ext4 rw 0 1" >"$1/etc/fstab"
