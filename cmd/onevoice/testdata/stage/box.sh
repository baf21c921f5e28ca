#!/bin/sh
# Makes a copy of this system for one host of the stage, in memory, and waits in it for
# ever. Its namespaces of mounts, names and processes are new already.
#
#   box.sh NAME PROGRAM HOSTS
set -eu
name=$1 program=$2 hosts=$3 here=$(dirname "$0")
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root /mnt/stage
cp "$here"/* /mnt/stage
root=/mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount --bind /dev $root/dev
mount -t devpts devpts $root/dev/pts 2>/dev/null || true
for dir in tmp run home root; do
  mount -t tmpfs -o mode=755 tmpfs $root/$dir
done
chmod 1777 $root/tmp

# Whatever this system has of onevoice or of SSH itself is not in the copy.
rm -rf $root/etc/onevoice $root/var/lib/onevoice $root/usr/bin/onevoice $root/etc/ssh
sed -i -e '/^onevoice:/d' $root/etc/passwd $root/etc/group $root/etc/shadow $root/etc/gshadow 2>/dev/null || true
hostname "$name"
echo "$name" > $root/etc/hostname
cp "$hosts" $root/etc/hosts
mkdir -p $root/usr/lib/stage
touch $root/usr/lib/stage/program
mount --bind "$program" $root/usr/lib/stage/program
cp /mnt/stage/* $root/usr/lib/stage/
for stand_in in apt systemctl journalctl; do
  ln -sf /usr/lib/stage/$stand_in $root/usr/local/bin/$stand_in
done

# sshd, and one key that everybody here logs in with.
mkdir -p -m 755 $root/etc/ssh $root/run/sshd
chroot $root ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
cat > $root/etc/ssh/sshd_config <<'SSHD'
UsePAM no
StrictModes no
AuthorizedKeysFile /usr/lib/stage/login.pub
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
SSHD
cat > $root/etc/ssh/ssh_config <<'SSH'
IdentityFile /usr/lib/stage/login
IdentitiesOnly yes
BatchMode yes
StrictHostKeyChecking accept-new
LogLevel ERROR
SSH
chmod 600 $root/usr/lib/stage/login
# A locked password keeps sshd from letting even a key in.
sed -i -e 's/^root:[^:]*:/root:*:/' $root/etc/shadow
chroot $root useradd --create-home --password '*' alice
chroot $root /usr/sbin/sshd
touch /mnt/ready
exec chroot $root sleep infinity
