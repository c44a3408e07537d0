package config

// Secrets says how secrets reach the machine.
type Secrets struct {
	// Method is one of http_post, vsock, file, env.
	Method string `json:"method"`
}

func (s *Secrets) check() error {
	return oneOf("method", s.Method, "http_post", "vsock", "file", "env")
}
