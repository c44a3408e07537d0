package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tdxvm/guest/internal/config"
)

// sampleSecrets are two required secrets and one that is not, with targets below folder.
func sampleSecrets(folder string) []config.Secret {
	file := func(name string) config.SecretTarget {
		return config.SecretTarget{Type: "file", Path: filepath.Join(folder, "out", name), Mode: "0400",
			Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid())}
	}
	global := config.SecretTarget{Type: "env", Variable: "API_TOKEN", Scope: "global"}
	service := config.SecretTarget{Type: "env", Variable: "PORT", Scope: "service", Service: "app.service"}
	return []config.Secret{
		{Name: "api_token", Required: true, Schema: config.SecretSchema{Kind: "string", MinLength: 8, MaxLength: 64, Pattern: "^tok_"},
			Targets: []config.SecretTarget{file("api-token"), global}},
		{Name: "port", Schema: config.SecretSchema{Kind: "int", MaxLength: 5}, Targets: []config.SecretTarget{service}},
		{Name: "seed", Required: true, Schema: config.SecretSchema{Kind: "base64", MaxLength: 64}, Targets: []config.SecretTarget{file("seed")}},
	}
}

func sampleStore(t testing.TB, folder string) *store {
	t.Helper()
	opened, err := openStore(sampleSecrets(folder), filepath.Join(folder, "state"))
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func post(t testing.TB, s *store, oneTime bool, pairs ...string) outcome {
	t.Helper()
	var entries []entry
	for index := 0; index < len(pairs); index += 2 {
		entries = append(entries, entry{name: pairs[index], raw: json.RawMessage(pairs[index+1])})
	}
	result, err := s.accept(entries, oneTime)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func read(t testing.TB, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if errors.Is(err, os.ErrNotExist) {
		return "(missing)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func rulesOf(faults []Fault) string {
	var parts []string
	for _, each := range faults {
		parts = append(parts, each.Secret+":"+each.Rule)
	}
	return strings.Join(parts, " ")
}

func TestSecretsReachTheirPlaces(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	if got := read(t, folder, "state/env/app.service.env"); got != "" {
		t.Errorf("before: %q", got)
	}
	if result := post(t, s, false, "port", "80", "api_token", `"tok_12345"`); len(result.faults) != 0 || s.ready() {
		t.Fatalf("%+v ready %v", result, s.ready())
	}
	if got := read(t, folder, "out/api-token"); got != "tok_12345" {
		t.Errorf("file: %q", got)
	}
	if got := read(t, folder, "state/env/global.env") + read(t, folder, "state/env/app.service.env"); got != "API_TOKEN=\"tok_12345\"\nPORT=\"80\"\n" {
		t.Errorf("environment: %q", got)
	}
	if got := s.missing(); !slices.Equal(got, []string{"seed"}) {
		t.Errorf("missing: %v", got)
	}
	if post(t, s, false, "seed", `"AP8="`); !s.ready() || len(s.missing()) != 0 {
		t.Error("not ready with all that is required")
	}
	if got := read(t, folder, "out/seed"); got != "\x00\xff" {
		t.Errorf("seed: %q", got)
	}
	about, err := os.Stat(filepath.Join(folder, "state"))
	if err != nil || about.Mode().Perm() != 0o700 {
		t.Errorf("the state's folder: %v %v", about.Mode(), err)
	}
}

func TestOneFaultAndNothingIsTaken(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	result := post(t, s, false, "api_token", `"tok_12345"`, "tok_99999", `1`, "seed", `"?"`, "port", `"80"`)
	if got := rulesOf(result.faults); got != ":unknown seed:kind port:kind" || result.accepted != nil {
		t.Errorf("%s, accepted %v", got, result.accepted)
	}
	if text := fmt.Sprintf("%+v", result.faults); strings.Contains(text, "tok_99999") || !strings.Contains(text, "name number 2") {
		t.Errorf("an unknown name, which may be a value, is echoed: %s", text)
	}
	if got := read(t, folder, "out/api-token") + read(t, folder, "state/state.json") + read(t, folder, "state/env/global.env"); got != "(missing)(missing)" {
		t.Errorf("left: %q", got)
	}
}

func TestTheFirstValidOneStays(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	post(t, s, false, "api_token", `"wrong"`)
	post(t, s, false, "api_token", `"tok_first"`)
	result := post(t, s, false, "port", "1", "api_token", `"tok_second"`)
	if got := rulesOf(result.faults); got != "api_token:already" {
		t.Errorf("faults %s", got)
	}
	if got := read(t, folder, "out/api-token"); got != "tok_first" || s.received("port") {
		t.Errorf("%q, port %v", got, s.received("port"))
	}
}

func TestOfManyAtOnceOneWins(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	var lock sync.Mutex
	var winners []string
	var all sync.WaitGroup
	for index := range 100 {
		all.Add(1)
		go func() {
			defer all.Done()
			value := fmt.Sprintf("tok_%05d", index)
			result, err := s.accept([]entry{{name: "api_token", raw: json.RawMessage(quoted(value))}}, false)
			lock.Lock()
			defer lock.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case len(result.accepted) == 1:
				winners = append(winners, value)
			case rulesOf(result.faults) != "api_token:already":
				t.Error(result.faults)
			}
		}()
	}
	all.Wait()
	if len(winners) != 1 || read(t, folder, "out/api-token") != winners[0] {
		t.Errorf("winners %v, file %s", winners, read(t, folder, "out/api-token"))
	}
}

func TestARestartGoesOn(t *testing.T) {
	folder := volatile(t)
	post(t, sampleStore(t, folder), false, "api_token", `"tok_12345"`)
	if err := os.Remove(filepath.Join(folder, "out", "api-token")); err != nil { // as if stopped between state and file
		t.Fatal(err)
	}
	again := sampleStore(t, folder)
	if got := read(t, folder, "out/api-token"); got != "tok_12345" {
		t.Errorf("after the restart: %q", got)
	}
	if got := rulesOf(post(t, again, false, "api_token", `"tok_other"`).faults); got != "api_token:already" {
		t.Errorf("faults %s", got)
	}
}

func TestAStateThatIsNotOursIsRefused(t *testing.T) {
	folder := volatile(t)
	sampleStore(t, folder)
	for _, content := range []string{"", "{", `{"version":2}`, "[]"} {
		if err := os.WriteFile(filepath.Join(folder, "state", "state.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openStore(sampleSecrets(folder), filepath.Join(folder, "state")); err == nil || !strings.Contains(err.Error(), "is not what this program wrote") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestATokenAllowsOnePost(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	if got := rulesOf(post(t, s, true, "api_token", `"tok_12345"`).faults); got != "seed:required" {
		t.Errorf("faults %s", got)
	}
	if s.tokenSpent() || s.received("api_token") {
		t.Error("a refused post spends the token")
	}
	if result := post(t, s, true, "api_token", `"tok_12345"`, "seed", `"AAAA"`); len(result.faults) != 0 || !s.tokenSpent() {
		t.Errorf("%v", result.faults)
	}
	if !sampleStore(t, folder).tokenSpent() {
		t.Error("a restart forgets that the token is spent")
	}
	// Another post with the token, which was looked at before the first was accepted.
	if _, err := s.accept([]entry{{name: "port", raw: json.RawMessage("1")}}, true); !errors.Is(err, errSpent) || s.received("port") {
		t.Errorf("a second post with the token: %v", err)
	}
}

func TestWhatAKilledRunLeftIsRemoved(t *testing.T) {
	folder := volatile(t)
	sampleStore(t, folder)
	var left []string
	for _, name := range []string{"out/api-token", "out/seed", "state/state.json", "state/env/global.env"} {
		file, err := stage(mine(filepath.Join(folder, name), 0o400), []byte("tok_12345")) // and killed
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, filepath.Join(filepath.Dir(file.place.path), file.temporary))
	}
	other := filepath.Join(folder, "out", ".tdx-guest")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sampleStore(t, folder)
	for _, name := range left {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestAFullFileSystemChangesNothing(t *testing.T) {
	folder := volatile(t)
	s := sampleStore(t, folder)
	if err := os.Remove(filepath.Join(folder, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "out"), nil, 0o600); err != nil { // a file where the folder was
		t.Fatal(err)
	}
	_, err := s.accept([]entry{{name: "api_token", raw: json.RawMessage(`"tok_12345"`)}}, false)
	if err == nil || s.received("api_token") || read(t, folder, "state/state.json") != "(missing)" {
		t.Errorf("%v, received %v", err, s.received("api_token"))
	}
	if entries, _ := os.ReadDir(filepath.Join(folder, "state", "env")); len(entries) != 2 {
		t.Errorf("left over: %v", entries)
	}
}

func TestWithoutRequiredSecretsAllAreAwaited(t *testing.T) {
	folder := volatile(t)
	secrets := sampleSecrets(folder)
	for index := range secrets {
		secrets[index].Required = false
	}
	s, err := openStore(secrets, filepath.Join(folder, "state"))
	if err != nil {
		t.Fatal(err)
	}
	if !s.ready() || len(s.missing()) != 3 {
		t.Errorf("ready %v, missing %v", s.ready(), s.missing())
	}
}

func TestFaultyPlacesAreSaidAtTheStart(t *testing.T) {
	folder := volatile(t)
	for change, want := range map[string]func(*config.SecretTarget){
		"no user or group nobody-there": func(target *config.SecretTarget) { target.Owner = "nobody-there" },
		"not on a tmpfs":                func(target *config.SecretTarget) { target.Path = "/proc/x" },
	} {
		secrets := sampleSecrets(folder)
		want(&secrets[0].Targets[0])
		if _, err := openStore(secrets, filepath.Join(folder, "state")); err == nil || !strings.Contains(err.Error(), change) {
			t.Errorf("%v, want %q", err, change)
		}
	}
}
