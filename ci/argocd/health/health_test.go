// Package health tests the Lua health check of an Application (argocd/argocd-cm.yaml) like Argo CD runs it: with its
// interpreter and the same few libraries. The strings library is not one of them.
package health

import (
	"os"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"go.yaml.in/yaml/v3"
)

const settings, key = "../../../argocd/argocd-cm.yaml", "resource.customizations.health.argoproj.io_Application"

// green is a synced and healthy Application. Each case changes one field.
const green = `
spec:
  source: {repoURL: r, targetRevision: abc, path: charts/x, helm: {valuesObject: {a: 1, b: [x, y]}}}
  destination: {server: s, namespace: n}
status:
  sync:
    status: Synced
    comparedTo:
      source: {repoURL: r, targetRevision: abc, path: charts/x, helm: {valuesObject: {a: 1, b: [x, y]}}}
      destination: {server: s, namespace: n}
  health: {status: Healthy}
  operationState: {phase: Succeeded}
`

func assess(t *testing.T, application map[string]any) (string, string) {
	t.Helper()
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Data map[string]string }
	if err := yaml.Unmarshal(text, &file); err != nil || file.Data[key] == "" {
		t.Fatalf("%s has no %s: %v", settings, key, err)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", value(state, application))
	if err := state.DoString(file.Data[key]); err != nil {
		t.Fatal(err)
	}
	answer := state.Get(-1).(*lua.LTable)
	return answer.RawGetString("status").String(), answer.RawGetString("message").String()
}

func value(state *lua.LState, item any) lua.LValue {
	switch typed := item.(type) {
	case map[string]any:
		table := state.NewTable()
		for name, item := range typed {
			table.RawSetString(name, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range typed {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(typed)
	case int:
		return lua.LNumber(typed)
	case nil:
		return lua.LNil
	}
	panic(item)
}

// put writes a value (in YAML) at a path of an Application; "" removes it.
func put(t *testing.T, application map[string]any, path, text string) {
	t.Helper()
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		application = application[name].(map[string]any)
	}
	last := names[len(names)-1]
	if text == "" {
		delete(application, last)
		return
	}
	var item any
	if err := yaml.Unmarshal([]byte(text), &item); err != nil {
		t.Fatal(err)
	}
	application[last] = item
}

func TestAnApplicationIsHealthyOnlyIfTheWantedStateWasCompared(t *testing.T) {
	for _, test := range []struct{ name, path, value, status, message string }{
		{"synced and healthy", "status.health.message", "", "Healthy", ""},
		{"new", "status", "", "Progressing", "first comparison"},
		{"no comparison yet", "status.sync", "", "Progressing", "first comparison"},
		{"other revision wanted", "spec.source.targetRevision", "def", "Progressing", "not compared"},
		{"other value wanted", "spec.source.helm.valuesObject.b", "[x, z]", "Progressing", "not compared"},
		{"a value more wanted", "spec.source.helm.valuesObject.c", "1", "Progressing", "not compared"},
		{"a value less wanted", "spec.source.helm.valuesObject.a", "", "Progressing", "not compared"},
		{"other namespace wanted", "spec.destination.namespace", "m", "Progressing", "not compared"},
		{"differs", "status.sync.status", "OutOfSync", "Progressing", "not synced: OutOfSync"},
		{"syncing", "status.operationState.phase", "Running", "Progressing", "sync is running"},
		{"does not render", "status.conditions", "[{type: ComparisonError, message: no}]", "Degraded", "ComparisonError: no"},
		{"warning only", "status.conditions", "[{type: OrphanedResourceWarning, message: no}]", "Healthy", ""},
		{"pods start", "status.health", "{status: Progressing, message: waiting}", "Progressing", "waiting"},
		{"pods fail", "status.health", "{status: Degraded, message: deadline}", "Degraded", "deadline"},
		{"no automated sync yet", "status.operationState", "", "Healthy", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var application map[string]any
			if err := yaml.Unmarshal([]byte(green), &application); err != nil {
				t.Fatal(err)
			}
			put(t, application, test.path, test.value)
			status, message := assess(t, application)
			if status != test.status || !strings.Contains(message, test.message) {
				t.Errorf("%s %q, want %s %q", status, message, test.status, test.message)
			}
		})
	}
}

func TestAFailedSyncIsDegraded(t *testing.T) {
	var application map[string]any
	if err := yaml.Unmarshal([]byte(green), &application); err != nil {
		t.Fatal(err)
	}
	put(t, application, "status.sync.status", "OutOfSync")
	put(t, application, "status.operationState", "{phase: Failed, message: refused}")
	if status, message := assess(t, application); status != "Degraded" || message != "refused" {
		t.Errorf("%s %q, want Degraded with the operation's message", status, message)
	}
}
