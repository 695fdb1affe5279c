# Patches KVM in /src and compiles its modules into /new, where our sources are. Arguments: release, compiler, jobs.
set -eu
cd /src
kvm=arch/x86/kvm
# The patch of an earlier run, if it was another one.
if [ -e /applied.patch ] && ! cmp -s /applied.patch /new/kvm.patch; then
	patch -p1 -R --no-backup-if-mismatch </applied.patch
	rm /applied.patch
fi
if [ ! -e /applied.patch ]; then
	# All of it or nothing, so that a patch that does not fit leaves the sources as they were.
	patch -p1 --forward --dry-run </new/kvm.patch
	patch -p1 --forward --no-backup-if-mismatch </new/kvm.patch
	cp /new/kvm.patch /applied.patch
fi
# What has not changed keeps its time, and is not compiled again.
mkdir -p $kvm/exitscope
for file in /new/*.[ch] /new/*.rs; do
	cmp -s "$file" "$kvm/exitscope/${file##*/}" || cp "$file" $kvm/exitscope/
done
base=$(make -s ARCH=x86 kernelversion)
make -j "$3" ARCH=x86 CC="x86_64-linux-gnu-$2" HOSTCC="$2" LOCALVERSION="${1#"$base"}" M=$kvm modules
for module in kvm kvm-amd kvm-intel; do
	strip --strip-debug -o "/new/$module.ko" "$kvm/$module.ko"
done
