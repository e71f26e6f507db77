package topology

import "context"

type clusterServer struct{}

func (c *clusterServer) run(ctx context.Context, ready func(string)) error { return nil }
