package control

// PathsRequest asks which paths begin so. Prefix is absolute; its part behind the last
// slash is the beginning of a name.
type PathsRequest struct {
	Prefix string `json:"prefix"`
}

// Paths answers "paths", in order; those of directories end in a slash. There are 200 at
// most.
type Paths struct {
	Paths []string `json:"paths"`
	More  bool     `json:"more,omitempty"` // there are others, or not all were looked at
}
