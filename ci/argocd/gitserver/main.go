// gitserver serves one bare Git repository over HTTP. Every client can read. Pushes are accepted only on the loopback
// address of the pod, so they need access to `kubectl port-forward` through the Kubernetes API.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// handler serves the repositories below root through Git's own CGI program; it accepts pushes only if write is true.
func handler(root string, write bool) (http.Handler, error) {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git does not run: %w", err)
	}
	git := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env: []string{
			"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", // another user may own the folder of the volume
			"GIT_CONFIG_KEY_1=http.receivepack", fmt.Sprintf("GIT_CONFIG_VALUE_1=%t", write),
		},
		InheritEnv: []string{"PATH", "HOME"},
		Stderr:     os.Stderr,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", git)
	return mux, nil
}

// create makes an empty repository with the branch main if it does not exist.
func create(repository string) error {
	if _, err := os.Stat(filepath.Join(repository, "HEAD")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", repository).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git init %s: %w: %s", repository, err, out)
	}
	return nil
}

func serve(address, root string, write bool) error {
	git, err := handler(root, write)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: git, ReadHeaderTimeout: 10 * time.Second}
	log.Printf("serving %s on %s, accepts pushes: %t", root, address, write)
	return server.ListenAndServe()
}

func main() {
	root := flag.String("root", "/srv/git", "folder of the repository")
	name := flag.String("name", "platform.git", "the repository")
	read := flag.String("read", ":3080", "address for reading")
	write := flag.String("write", "127.0.0.1:3081", "address for pushing")
	flag.Parse()
	if err := create(filepath.Join(*root, *name)); err != nil {
		log.Fatal(err)
	}
	failed := make(chan error)
	go func() { failed <- serve(*read, *root, false) }()
	go func() { failed <- serve(*write, *root, true) }()
	log.Fatal(<-failed)
}
