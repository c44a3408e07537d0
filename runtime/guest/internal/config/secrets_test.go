package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusedSecretsAndQuotes changes one thing of a good sample at a time.
func TestRefusedSecretsAndQuotes(t *testing.T) {
	cases := []struct{ name, sample, old, new, want string }{
		{"method", "http", `"method":"http_post"`, `"method":"ftp"`, `method "ftp" is not one of`},
		{"unknown key", "http", `"method"`, `"extra":1,"method"`, `unknown field "extra"`},
		{"no port", "http", `"port":8080`, `"port":0`, "port is 0"},
		{"port of TCP", "http", `"port":8080`, `"port":65536`, "must be 1 to 65535"},
		{"port of vsock", "vsock", `"port":5000`, `"port":4294967295`, "must be 1 to 4294967294"},
		{"address", "http", `"port":8080`, `"address":"localhost","port":8080`, `address "localhost" is no IP address`},
		{"address of vsock", "vsock", `"port":5000`, `"address":"::","port":5000`, `address belongs to method "http_post"`},
		{"server without a server", "env", `"method":"env"`, `"method":"env","port":1`, "belong to methods"},
		{"tls", "http", `"tls":"generated"`, `"tls":"maybe"`, `tls "maybe" is not one of`},
		{"tls without a server", "env", `"method":"env"`, `"method":"env","tls":"generated"`, "tls belongs to methods"},
		{"tls files without files", "http", `"tls":"generated"`, `"tls":"files"`, `certificate "" must be an absolute path`},
		{"key without tls files", "http", `"tls":"generated"`, `"key":"/run/key","tls":"generated"`, `certificate and key belong to tls "files"`},
		{"token", "http", `"token_sha256":"9f`, `"token_sha256":"9F`, "token_sha256 is not 64"},
		{"body", "http", `"max_body_bytes":65536`, `"max_body_bytes":1073741824`, "max_body_bytes is 1073741824"},
		{"timeout", "file", `"timeout_seconds":60`, `"timeout_seconds":-1`, "timeout_seconds is -1"},
		{"rate", "http", `"requests_per_minute":30`, `"requests_per_minute":0`, "requests_per_minute is 0"},
		{"rate of all", "http", `"requests_per_minute_total":600`, `"requests_per_minute_total":0`, "requests_per_minute_total is 0"},
		{"source", "file", `"/dev/disk/by-id/virtio-secrets"`, `"secrets"`, `source "secrets" must be an absolute path`},
		{"source of another method", "env", `"method":"env"`, `"method":"env","source":"/x"`, `source belongs to method "file"`},
		{"name", "http", `"name":"api_token"`, `"name":"API"`, `name "API" must be`},
		{"name twice", "http", `"name":"port"`, `"name":"api_token"`, `"api_token" is there twice`},
		{"kind", "http", `"kind":"int"`, `"kind":"float"`, `kind "float" is not one of`},
		{"no length", "http", `"max_length":16384`, `"max_length":0`, "max_length is 0"},
		{"longer than a body", "http", `"max_length":16384`, `"max_length":65537`, "max_length is 65537"},
		{"lengths crossed", "vsock", `"min_length":64`, `"min_length":65`, "min_length is 65"},
		{"pattern of Python", "http", `"^tok_"`, `"(?=tok_)"`, "is not RE2"},
		{"pattern of base64", "file", `"kind":"base64","max_length":1024`, `"kind":"base64","max_length":1024,"pattern":"x"`, "pattern belongs to kinds"},
		{"enum of pem", "http", `"kind":"pem"`, `"enum":["x"],"kind":"pem"`, "enum belongs to kinds"},
		{"no target", "env", `[{"scope":"global","type":"env","variable":"LEVEL"}]`, `[]`, "number of targets is 0"},
		{"type of target", "env", `"type":"env"`, `"type":"pipe"`, `type "pipe" is not one of`},
		{"file with a variable", "file", `"type":"file"`, `"type":"file","variable":"A"`, "variable, scope and service belong"},
		{"variable with a file", "env", `"type":"env"`, `"path":"/run/a","type":"env"`, "path, mode, owner and group belong"},
		{"relative target", "file", `"/run/secrets/blob"`, `"run/../blob"`, "must be an absolute path"},
		{"target in the state", "file", `"/run/secrets/blob"`, `"/run/tdx-guest/secrets/state.json"`, "keeps the state"},
		{"readable by everybody", "file", `"mode":"0600"`, `"mode":"0644"`, `mode "0644" must be`},
		{"executable", "file", `"mode":"0600"`, `"mode":"0700"`, `mode "0700" must be`},
		{"setuid", "file", `"mode":"0600"`, `"mode":"4600"`, `mode "4600" must be`},
		{"owner", "file", `"owner":"1000"`, `"owner":"a:b"`, `owner or group "a:b"`},
		{"base64 as a variable", "file", `"kind":"json"`, `"kind":"base64"`, "a variable cannot"},
		{"variable", "env", `"LEVEL"`, `"LE-VEL"`, `variable "LE-VEL" must be`},
		{"variable of the loader", "env", `"LEVEL"`, `"LD_PRELOAD"`, "steers how programs start"},
		{"scope", "env", `"scope":"global"`, `"scope":"all"`, `scope "all" is not one of`},
		{"service of a global variable", "env", `"scope":"global"`, `"scope":"global","service":"a.service"`, `belongs to scope "service"`},
		{"service", "file", `"app.service"`, `"../app.service"`, "is no unit of type service"},
		{"one place for two", "http", `"path":"/run/secrets/tls.key"`, `"path":"/run/secrets/api-token"`, `"/run/secrets/api-token" is there twice`},
		{"quote source", "http", `"source":"configfs"`, `"source":"dev"`, `source "dev" is not one of`},
		{"fake quotes", "file", `"test_image":true`, `"test_image":false`, "needs an image that is marked as a test"},
		{"idle", "http", `"idle_seconds":60`, `"idle_seconds":0`, "idle_seconds is 0"},
		{"connections", "http", `"max_connections":16`, `"max_connections":0`, "max_connections is 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(samples, "secrets-"+c.sample+".json"))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(data), c.old, c.new, 1)
			if changed == string(data) {
				t.Fatalf("%q is not in the sample", c.old)
			}
			if _, err = Parse([]byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("refused as %v, want %q", err, c.want)
			}
		})
	}
}
