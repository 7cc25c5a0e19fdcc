package main

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func git(t *testing.T, folder string, words ...string) (string, error) {
	t.Helper()
	command := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=t", "-c", "user.email=t@t"}, words...)...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := command.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, folder string, words ...string) string {
	t.Helper()
	out, err := git(t, folder, words...)
	if err != nil {
		t.Fatalf("git %v: %v\n%s", words, err, out)
	}
	return out
}

func TestOnlyTheWriteAddressAcceptsPushes(t *testing.T) {
	root, work := t.TempDir(), t.TempDir()
	for range 2 { // the second call is like a restart and must keep the repository
		if err := create(filepath.Join(root, "platform.git")); err != nil {
			t.Fatal(err)
		}
	}
	urls := map[bool]string{}
	for _, write := range []bool{false, true} {
		served, err := handler(root, write)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(served)
		defer server.Close()
		urls[write] = server.URL + "/platform.git"
	}
	must(t, work, "init", "--quiet", "--initial-branch=main")
	must(t, work, "commit", "--quiet", "--allow-empty", "-m", "one")
	if out, err := git(t, work, "push", urls[false], "HEAD:refs/heads/main"); err == nil {
		t.Fatalf("the read address accepted a push:\n%s", out)
	}
	must(t, work, "push", urls[true], "HEAD:refs/heads/main")
	want := strings.TrimSpace(must(t, work, "rev-parse", "HEAD"))
	if seen := must(t, work, "ls-remote", urls[false]); !strings.Contains(seen, want+"\trefs/heads/main") {
		t.Fatalf("the read address shows\n%s, not %s", seen, want)
	}
}
