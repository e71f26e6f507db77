// Package history tells stories of a target that keeps its replicas' past: any moment of it
// is rebuilt, whatever was trimmed, killed or mirrored meanwhile. It holds tests alone.
package history
