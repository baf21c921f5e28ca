package lab

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForbiddenNamesTheMend(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		uid      int
		settings map[string]string
		says     []string
	}{
		{"none at all", unix.ENOSPC, 1000, map[string]string{"user.max_user_namespaces": "0"},
			[]string{"ordinary users", "run it as root", "sysctl -w user.max_user_namespaces=15000"}},
		{"Debian's switch", unix.EPERM, 1000, map[string]string{"user.max_user_namespaces": "96365", "kernel.unprivileged_userns_clone": "0"},
			[]string{"ordinary users", "run it as root", "sysctl -w kernel.unprivileged_userns_clone=1"}},
		{"Ubuntu's AppArmor", unix.EACCES, 1000, map[string]string{"user.max_user_namespaces": "96365", "kernel.apparmor_restrict_unprivileged_userns": "1"},
			[]string{"ordinary users", "run it as root", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"}},
		{"a user in a container", unix.EPERM, 1000, nil,
			[]string{"ordinary users", "run it as root", "--privileged"}},
		{"root in a container", unix.EPERM, 0, map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "1"},
			[]string{"root may not", "in a container", "--privileged"}},
		{"too many", unix.ENOSPC, 1000, map[string]string{"user.max_user_namespaces": "96365"},
			[]string{"no more room", "user.max_*_namespaces"}},
		{"too deep", unix.EUSERS, 0, nil, []string{"no more room"}},
		{"a small kernel", unix.EINVAL, 1000, nil, []string{"this kernel lacks namespaces", "CONFIG_USER_NS"}},
	} {
		err := fmt.Errorf("fork/exec: %w", c.err)
		got := forbidden(err, c.uid, func(name string) string { return c.settings[name] })
		for _, text := range c.says {
			if !strings.Contains(got, text) {
				t.Errorf("%s: %q does not say %q", c.name, got, text)
			}
		}
		if strings.Contains(got, "\n") || strings.Count(got, "; ") != 1 {
			t.Errorf("%s: this is not one sentence with its mend: %q", c.name, got)
		}
	}
	if err := fmt.Errorf("other"); ExplainEnter(err) != err {
		t.Error("another error was explained")
	}
}
