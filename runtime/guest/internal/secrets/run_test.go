package secrets

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/logging"
)

const goodSource = `{"secrets":{"api_token":"tok_12345","seed":"AAAA"}}`

func TestSources(t *testing.T) {
	cases := []struct{ name, content, want string }{
		{"file", goodSource, ""},
		{"padded device", goodSource + strings.Repeat("\x00", 3000), ""},
		{"longer text of before", goodSource + "\x00 of before}}", ""},
		{"line feed", goodSource + "\n", ""},
		{"incomplete", `{"secrets":{"api_token":"tok_12345"}}`, "lack required secrets: seed"},
		{"wrong", `{"secrets":{"api_token":"Sup3rS3cret","seed":"AAAA"}}`, "do not fit the recipe: api_token does not match ^tok_"},
		{"no JSON", "hello", "is not JSON"},
		{"empty", "", "is not JSON"},
		{"too long", strings.Repeat(" ", 2049), "more than 2048 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := volatile(t)
			source := filepath.Join(folder, "source")
			if err := os.WriteFile(source, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := sampleStore(t, folder)
			err := takeFile(t.Context(), &config.Secrets{Source: source, MaxBodyBytes: 2048}, s, logging.New(&lines{}, false))
			if c.want == "" && (err != nil || !s.ready()) {
				t.Errorf("%v, ready %v", err, s.ready())
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "Sup3r")) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestASourceMayComeLater(t *testing.T) {
	folder := volatile(t)
	source := filepath.Join(folder, "source")
	log := &lines{}
	go func() {
		for !strings.Contains(log.String(), "waiting for") { // so that it has looked once
			time.Sleep(5 * time.Millisecond)
		}
		_ = os.WriteFile(source+".new", []byte(goodSource), 0o600)
		_ = os.Rename(source+".new", source)
	}()
	if err := takeFile(t.Context(), &config.Secrets{Source: source, MaxBodyBytes: 2048}, sampleStore(t, folder), logging.New(log, false)); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "waiting for the source of secrets") != 1 || !strings.Contains(log.String(), source) {
		t.Errorf("%q", log)
	}
}

func TestSourcesThatAreNoFiles(t *testing.T) {
	folder := volatile(t)
	pipe := filepath.Join(folder, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{pipe, folder, "/dev/zero"} {
		err := takeFile(t.Context(), &config.Secrets{Source: source, MaxBodyBytes: 2048}, sampleStore(t, folder), logging.New(&lines{}, false))
		if err == nil || !strings.Contains(err.Error(), "the source of secrets "+source+" is a") {
			t.Errorf("%s: %v", source, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := takeFile(ctx, &config.Secrets{Source: "/nowhere", MaxBodyBytes: 2048}, sampleStore(t, folder), logging.New(&lines{}, false))
	if err == nil || !strings.Contains(err.Error(), "the time is up: there is no /nowhere") {
		t.Error(err)
	}
}

func TestARestartTakesTheSourceAgain(t *testing.T) {
	folder := volatile(t)
	source := filepath.Join(folder, "source")
	if err := os.WriteFile(source, []byte(goodSource), 0o600); err != nil {
		t.Fatal(err)
	}
	post(t, sampleStore(t, folder), false, "api_token", `"tok_first"`)
	if err := takeFile(t.Context(), &config.Secrets{Source: source, MaxBodyBytes: 2048}, sampleStore(t, folder), logging.New(&lines{}, false)); err != nil {
		t.Error(err)
	}
	if got := read(t, folder, "out/api-token"); got != "tok_first" {
		t.Errorf("%q", got)
	}
}

func TestCredentials(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"right", map[string]string{"api_token": `tok_"123`, "seed": "AAAA", "port": "80\n"}, ""},
		{"missing", map[string]string{"api_token": "tok_12345"}, "lack required secrets: seed"},
		{"line feed in text", map[string]string{"api_token": "tok_12345\a", "seed": "AAAA"}, "control character"},
		{"no number", map[string]string{"api_token": "tok_12345", "seed": "AAAA", "port": "Sup3r"}, "port must be a JSON integer"},
		{"empty number", map[string]string{"api_token": "tok_12345", "seed": "AAAA", "port": ""}, "port must be a JSON integer, and is nothing"},
		{"not UTF-8", map[string]string{"api_token": "tok_\xff2345", "seed": "AAAA"}, "api_token is not UTF-8"},
		{"too long", map[string]string{"api_token": strings.Repeat("x", 2049)}, "more than 2048 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := volatile(t)
			for name, content := range c.files {
				if err := os.WriteFile(filepath.Join(folder, "tdx.secret."+name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := sampleStore(t, folder)
			err := takeCredentials(folder, "/nowhere", 2048, s)
			if c.want == "" && (err != nil || read(t, folder, "out/api-token") != `tok_"123` || read(t, folder, "state/env/app.service.env") != "PORT=\"80\"\n") {
				t.Errorf("%v %q", err, read(t, folder, "out/api-token"))
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "Sup3r")) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestCredentialsOfSMBIOS(t *testing.T) {
	const text, binary = "io.systemd.credential:tdx.secret.", "io.systemd.credential.binary:tdx.secret."
	cases := []struct {
		name    string
		strings []string
		want    string
	}{
		{"right", []string{"other", text + "api_token=tok_\"123", text + "seed=AAAA", binary + "port=ODAK"}, ""},
		{"the first counts", []string{text + "api_token=tok_\"123", text + "seed=AAAA", text + "port=80", text + "port=81"}, ""},
		{"missing", []string{text + "api_token=tok_12345", text + "seeds=AAAA"}, "lack required secrets: seed"},
		{"wrong", []string{text + "api_token=Sup3rS3cret", text + "seed=AAAA"}, "api_token does not match ^tok_"},
		{"empty", []string{text + "api_token=", text + "seed=AAAA"}, "api_token has fewer than 8 characters"},
		{"no base64", []string{binary + "api_token=Sup3r!"}, "the credential tdx.secret.api_token is not base64 in SMBIOS"},
		{"too long", []string{text + "api_token=" + strings.Repeat("x", 2049)}, "tdx.secret.api_token has more than 2048 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := volatile(t)
			tables := filepath.Join(folder, "DMI")
			table := "\x0b\x05\x00\x11" + string(rune(len(c.strings))) + strings.Join(c.strings, "\x00") + "\x00\x00"
			if err := os.WriteFile(tables, []byte(table), 0o600); err != nil {
				t.Fatal(err)
			}
			s := sampleStore(t, folder)
			err := takeCredentials("", tables, 2048, s)
			if c.want == "" && (err != nil || read(t, folder, "out/api-token") != `tok_"123` || read(t, folder, "state/env/app.service.env") != "PORT=\"80\"\n") {
				t.Errorf("%v %q", err, read(t, folder, "out/api-token"))
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "Sup3r")) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if err := takeCredentials("", "/nowhere", 2048, sampleStore(t, volatile(t))); err == nil || !strings.Contains(err.Error(), "lack required secrets: api_token, seed") {
		t.Error(err)
	}
}

func TestImportedCredentialsComeBeforeThoseOfSMBIOS(t *testing.T) {
	folder := volatile(t)
	if err := os.WriteFile(filepath.Join(folder, "tdx.secret.x"), []byte("imported"), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := credential("tdx.secret.x", folder, []string{"io.systemd.credential:tdx.secret.x=strung"}, 100)
	if err != nil || string(data) != "imported" {
		t.Errorf("%q %v", data, err)
	}
}

func TestKeysOfFiles(t *testing.T) {
	folder := volatile(t)
	conf := &config.Secrets{TLS: config.TLSFiles, Certificate: filepath.Join(folder, "certificate"), Key: "/proc/self/status"}
	if _, err := newIdentity(conf); err == nil || !strings.Contains(err.Error(), "a file of the secrets' server is missing") {
		t.Error(err)
	}
	if err := os.WriteFile(conf.Certificate, []byte(testPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newIdentity(conf); err == nil || !strings.Contains(err.Error(), "which is not on a tmpfs") {
		t.Error(err)
	}
	conf.Key = conf.Certificate
	if _, err := newIdentity(conf); err == nil || !strings.Contains(err.Error(), "are no certificate and its key") {
		t.Error(err)
	}
}
