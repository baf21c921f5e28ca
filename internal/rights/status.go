package rights

import (
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Status is what a process may.
type Status struct {
	User string `json:"user"`
	// Capabilities are those in use; Reserve are those that it may take up, or hand to
	// processes that it starts.
	Capabilities []string `json:"capabilities"`
	Reserve      []string `json:"capabilities_in_reserve"`
	NoNewPrivs   bool     `json:"no_new_privs"`
	// Landlock is the ABI that it is confined by, 0 for none.
	Landlock int `json:"landlock_abi"`
}

// Held asks the kernel what the calling thread may, which is what all of the process's
// may. user and landlock are what the kernel does not tell: whose it is by name, and the
// confinement.
func Held(user string, landlock int) Status {
	s := Status{User: user, Landlock: landlock, Capabilities: []string{}, Reserve: []string{}}
	have := cap.GetProc()
	for c := range cap.MaxBits() {
		if ok, err := have.GetFlag(cap.Effective, c); ok && err == nil {
			s.Capabilities = append(s.Capabilities, Name(c))
		} else if ok, err := have.GetFlag(cap.Permitted, c); ok && err == nil {
			s.Reserve = append(s.Reserve, Name(c))
		}
	}
	// It does not fail (prctl(2)).
	n, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	s.NoNewPrivs = n == 1
	return s
}
