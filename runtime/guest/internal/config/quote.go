package config

// Quote says how quotes are issued.
type Quote struct {
	// Socket is the unix socket that requests come in at.
	Socket string `json:"socket"`
}

func (q *Quote) check() error { return checkPath("socket", q.Socket) }
