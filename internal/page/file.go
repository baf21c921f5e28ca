package page

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newFile makes a memfd that can neither shrink nor grow, so that touching the
// mapping never raises SIGBUS, see memfd_create(2) and fcntl(2), "File Sealing".
func newFile() (*os.File, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("onevoice-page", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		// Before Linux 6.3 there is no MFD_NOEXEC_SEAL.
		fd, err = unix.MemfdCreate("onevoice-page", flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "onevoice-page")
	if err := unix.Ftruncate(fd, totalBytes); err != nil {
		return nil, errors.Join(os.NewSyscallError("ftruncate", err), file.Close())
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sizeSeals|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl F_ADD_SEALS", err), file.Close())
	}
	return file, nil
}

const sizeSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

func (c *Control) attach(rights int, at int64, size int) (unsafe.Pointer, error) {
	return attach(int(c.file.Fd()), rights, at, size, &c.memory)
}

func attach(fd, rights int, at int64, size int, memory *[][]byte) (unsafe.Pointer, error) {
	m, err := unix.Mmap(fd, at, size, rights, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	*memory = append(*memory, m)
	return unsafe.Pointer(&m[0]), nil
}

func detach(memory [][]byte) error {
	var errs []error
	for _, m := range memory {
		errs = append(errs, os.NewSyscallError("munmap", unix.Munmap(m)))
	}
	return errors.Join(errs...)
}
