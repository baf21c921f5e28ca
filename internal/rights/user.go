package rights

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// User is somebody of /etc/passwd, with all of its groups.
type User struct {
	Name   string
	UID    int
	GID    int
	groups []int
}

// LookupUser finds a user by name.
func LookupUser(name string) (User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("rights: groups of %s: %w", name, err)
	}
	out := User{Name: u.Username}
	for _, n := range []struct {
		to   *int
		text string
	}{{&out.UID, u.Uid}, {&out.GID, u.Gid}} {
		if *n.to, err = strconv.Atoi(n.text); err != nil {
			return User{}, fmt.Errorf("rights: user %s: %w", name, err)
		}
	}
	for _, g := range groups {
		id, err := strconv.Atoi(g)
		if err != nil {
			return User{}, fmt.Errorf("rights: groups of %s: %w", name, err)
		}
		out.groups = append(out.groups, id)
	}
	return out, nil
}

// Current is the user of this process, by number where it has no name.
func Current() User {
	out := User{Name: strconv.Itoa(os.Geteuid()), UID: os.Geteuid(), GID: os.Getegid()}
	if u, err := user.LookupId(out.Name); err == nil {
		out.Name = u.Username
	}
	return out
}

// Become makes this process another user's. It keeps what capabilities it has, of which
// none is in use until Limit.
func (u User) Become() error {
	if err := cap.SetGroups(u.GID, u.groups...); err != nil {
		return fmt.Errorf("rights: take the groups of user %s: %w", u.Name, err)
	}
	if err := cap.SetUID(u.UID); err != nil {
		return fmt.Errorf("rights: become user %s: %w", u.Name, err)
	}
	return nil
}
