"""The world of the endpoints: HTTP/1.1 connections of the data plane and the control plane's client."""
