package config

// Methods: where secrets come from.
const (
	MethodHTTP  = "http_post"
	MethodVsock = "vsock"
	MethodFile  = "file"
	MethodEnv   = "env"
)

// Kinds of secrets.
const (
	KindString = "string"
	KindInt    = "int"
	KindJSON   = "json"
	KindPEM    = "pem"
	KindBase64 = "base64"
)

// Modes of TLS.
const (
	// TLSOff is plain HTTP: whoever carries the packets can read and alter the secrets.
	TLSOff = "off"
	// TLSGenerated makes a key at each boot; the quote that a client asks for is bound to it.
	TLSGenerated = "generated"
	// TLSFiles takes the certificate and key that the configuration names.
	TLSFiles = "files"
)

// Types of targets, and scopes of those that are variables.
const (
	TargetFile   = "file"
	TargetEnv    = "env"
	ScopeGlobal  = "global"
	ScopeService = "service"
)

// SecretsDirectory is where `tdx-guest secrets` keeps what has come, on a tmpfs that only root reads.
const SecretsDirectory = "/run/tdx-guest/secrets"

// Secrets says which secrets the image waits for, and how they come.
type Secrets struct {
	// Method is http_post, vsock, file or env.
	Method string `json:"method"`

	// Address (http_post) is the IP address to listen on; empty is all of them. Port is that of TCP or vsock.
	Address string `json:"address,omitempty"`
	Port    int64  `json:"port,omitempty"`

	// TLS (http_post, vsock) is off, generated or files; Certificate and Key are paths, for files.
	TLS         string `json:"tls,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	// TokenSHA256 (http_post, vsock) is the digest of the one-time token in lower hex, or empty.
	TokenSHA256 string `json:"token_sha256,omitempty"`

	// RequestsPerMinute (http_post, vsock) bounds each address, RequestsPerMinuteTotal all of them together.
	RequestsPerMinute      int `json:"requests_per_minute,omitempty"`
	RequestsPerMinuteTotal int `json:"requests_per_minute_total,omitempty"`

	// Source (file) is a file, or a block device, that holds what would be the body of a post.
	Source string `json:"source,omitempty"`

	// MaxBodyBytes is the longest body of a post, and the longest source.
	MaxBodyBytes int `json:"max_body_bytes"`
	// TimeoutSeconds is how long to wait for all required secrets; zero is for ever.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`

	Secrets []Secret `json:"secrets"`
}

// Secret is one value that the image waits for.
type Secret struct {
	Name string `json:"name"`
	// Required secrets hold back the services that depend on the unit of the secrets.
	Required bool           `json:"required,omitempty"`
	Schema   SecretSchema   `json:"schema"`
	Targets  []SecretTarget `json:"targets"`
}

// SecretSchema says which values are taken.
type SecretSchema struct {
	Kind string `json:"kind"`
	// MinLength and MaxLength count Unicode code points (string, pem), characters of the decimal form (int),
	// decoded bytes (base64) or bytes of the compact text (json).
	MinLength int `json:"min_length,omitempty"`
	MaxLength int `json:"max_length"`
	// Pattern is RE2 and may match anywhere (string, int, pem); empty is none.
	Pattern string `json:"pattern,omitempty"`
	// Enum lists the values that are taken, as text (string, int); empty is all.
	Enum []string `json:"enum,omitempty"`
}

// SecretTarget is one place where a secret goes: a file (Path, Mode, Owner, Group) or a variable in an
// environment file (Variable, Scope, Service).
type SecretTarget struct {
	// Type is file or env.
	Type string `json:"type"`

	Path string `json:"path,omitempty"`
	// Mode is four octal digits.
	Mode string `json:"mode,omitempty"`
	// Owner and Group are names or decimal numbers.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`

	Variable string `json:"variable,omitempty"`
	// Scope is global or service; Service is the unit, for the latter.
	Scope   string `json:"scope,omitempty"`
	Service string `json:"service,omitempty"`
}

// EnvironmentFile is the name of the environment file of a variable, below env/ in [SecretsDirectory].
func (t *SecretTarget) EnvironmentFile() string {
	if t.Scope == ScopeGlobal {
		return "global.env"
	}
	return t.Service + ".env"
}
