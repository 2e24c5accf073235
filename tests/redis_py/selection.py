"""Which of redis-py's asyncio tests are run, and the reason for each one that is not."""

from __future__ import annotations

FOLDER = "tests/test_asyncio"

# Every job runs one of these groups on a server of its own; the one that takes longest is started
# first. The credential tests set passwords, so they are the last of theirs.
GROUPS: dict[str, tuple[str, ...]] = {
    "pubsub": ("test_pubsub.py", "test_monitor.py"),
    "others": (
        "test_pipeline.py",
        "test_lock.py",
        "test_scripting.py",
        "test_encoding.py",
        "test_hash.py",
        "test_usage_counter.py",
        "test_cwe_404.py",
        "test_connection.py",
        "test_connection_pool.py",
        "test_credentials.py",
    ),
    "commands": ("test_commands.py",),
}

# Modules that are left out as a whole.
MODULES: dict[str, str] = {
    "test_bloom.py": "needs a server module that is not loaded",
    "test_json.py": "needs a server module that is not loaded",
    "test_search.py": "needs a server module that is not loaded",
    "test_timeseries.py": "needs a server module that is not loaded",
    "test_client.py": "telemetry of redis-py's own connection, with everything mocked",
    "test_cluster.py": "redis-py's own cluster client",
    "test_cluster_transaction.py": "redis-py's own cluster client",
    "test_command_policies.py": "redis-py's own cluster client",
    "test_command_parser.py": "redis-py's own cluster client's table of commands",
    "test_connect.py": "redis-py's own connection classes",
    "test_himport_integration.py": "needs a server newer than either of ours",
    "test_keyspace_notifications.py": "mocked clients, or a server newer than either of ours",
    "test_retry.py": "redis-py's Retry and connection classes, and an argument refused by name",
    "test_sentinel.py": "redis-py's own Sentinel client, mocked",
    "test_sentinel_managed_connection.py": "redis-py's own connection class for Sentinel",
    "test_ssl.py": "redis-py's own TLS connection class, with certificates of its test bed",
    "test_utils.py": "decorators of redis-py; no client in it",
    "test_vsets.py": "needs a server newer than either of ours",
}

_CONNECTION = "redis-py's own connection or parser classes; no client in it"
_POOL = "redis-py's own connection pool classes; no client in it"
_POOL_INSIDE = "looks into the lists inside redis-py's own connection pool"
_CONNECTION_INSIDE = "looks into, or replaces, the inside of redis-py's own connection"
_MOCKED = "every connection and pool in it is a mock; no client talks to a server"
_CLUSTER = "cluster only"
_FAKE_REPLY = "its reply comes from a mock in the place of redis-py's own connection"
_WORDING = "wants redis-py's wording of a message"
_COMES_BACK = "wants a lost subscription to end with an error; ours subscribes anew by itself"
_SHARED = "changes a connection's state, which the shared connection refuses; [single] is run"
_NAME = "wants redis-py's name as the client's library name"
_PROXY = (
    "its proxy never ends if a connection comes as it stops, as ours does with this delay: it asks "
    "whether a server that has been silent for a second is still there"
)
_ENTRAID = "needs redis-entraid, and an account with its provider"

# Modules, classes and tests of the groups above that are not run, with the reason. An entry that
# names no test is an error. Tests marked for a cluster or for server modules go without saying.
DESELECTED: dict[str, str] = {
    "test_commands.py::TestRedisCommands::test_mset_on_cluster_multiple_slots": _CLUSTER,
    "test_commands.py::TestRedisCommands::test_readonly_invalid_cluster_state": _CLUSTER,
    "test_cwe_404.py::test_cluster": _CLUSTER,
    "test_cwe_404.py::test_standalone[0.5]": _PROXY,
    "test_cwe_404.py::test_standalone_pipeline[0.5]": _PROXY,
    "test_commands.py::TestRedisCommands::test_cluster_addslots": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_count_failure_reports": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_countkeysinslot": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_delslots": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_failover": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_forget": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_info": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_keyslot": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_meet": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_nodes": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_replicate": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_reset": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_saveconfig": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_setslot": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_cluster_slaves": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_readonly": _FAKE_REPLY,
    "test_commands.py::TestRedisCommands::test_client_no_touch[pool]": _SHARED,
    "test_commands.py::TestRedisCommands::test_bitfield_operations[pool]": _SHARED,
    "test_commands.py::TestRedisCommands::test_client_setinfo": _NAME,
    "test_connection.py::test_redis_client_default_driver_info": _NAME,
    "test_connection.py::test_network_connection_failure": _WORDING,
    "test_connection.py::test_unix_socket_connection_failure": _WORDING,
    "test_connection.py::test_redis_from_pool": _POOL_INSIDE,
    "test_pubsub.py::TestClusterPubSubSlotMigration": _CLUSTER,
    "test_pubsub.py::TestPubSubConnectionKilled": _COMES_BACK,
    "test_pubsub.py::TestPubSubAutoReconnect::test_reconnect_socket_error": _CONNECTION_INSIDE,
    "test_pubsub.py::TestBaseException::test_base_exception": _CONNECTION_INSIDE,
    "test_pubsub.py::TestPubSubHandleMessageMetrics": _MOCKED,
    "test_pubsub.py::TestPubSubAcloseWithMocks": _MOCKED,
    "test_pipeline.py::TestAsyncPipelineOperationDurationMetricsRecording": _MOCKED,
    "test_pipeline.py::TestPipeline::test_pipeline_reset_releases_connection_when_cancelled": (
        _POOL_INSIDE
    ),
    "test_encoding.py::TestMemoryviewsAreNotPacked": _CONNECTION_INSIDE,
    "test_credentials.py::TestCredentialsProvider::test_only_pass_without_creds_provider[pool]": (
        _SHARED
    ),
    "test_credentials.py::TestCredentialsProvider::"
    "test_credential_provider_with_supplier[pool-None]": _SHARED,
    "test_credentials.py::TestUsernamePasswordCredentialProvider::"
    "test_user_pass_provider_only_password[pool]": _SHARED,
    "test_credentials.py::TestCredentialsProvider::"
    "test_change_username_password_on_existing_connection": _CONNECTION_INSIDE,
    "test_credentials.py::TestStreamingCredentialProvider": _ENTRAID,
    "test_credentials.py::TestEntraIdCredentialsProvider": _ENTRAID,
    "test_credentials.py::TestClusterEntraIdCredentialsProvider": _ENTRAID,
    "test_connection_pool.py::TestRedisAutoReleaseConnectionPool": _POOL_INSIDE,
    "test_connection_pool.py::TestConnectionPool": _POOL,
    "test_connection_pool.py::TestBlockingConnectionPool": _POOL,
    "test_connection_pool.py::TestConnectionPoolURLParsing": _POOL,
    "test_connection_pool.py::TestBlockingConnectionPoolURLParsing": _POOL,
    "test_connection_pool.py::TestConnectionPoolUnixSocketURLParsing": _POOL,
    "test_connection_pool.py::TestSSLConnectionURLParsing": _POOL,
    "test_connection_pool.py::TestAsyncConnectionPoolMetricsRecording": _POOL,
    "test_connection_pool.py::TestHealthCheck": _CONNECTION_INSIDE,
    "test_connection_pool.py::TestConnection::test_on_connect_error": _POOL_INSIDE,
    "test_connection_pool.py::TestConnection::test_busy_loading_disconnects_socket": (
        _CONNECTION_INSIDE
    ),
    "test_connection_pool.py::TestConnection::test_busy_loading_from_pipeline_immediate_command": (
        _POOL_INSIDE
    ),
    "test_connection_pool.py::TestConnection::test_busy_loading_from_pipeline": _POOL_INSIDE,
    "test_connection_pool.py::TestConnection::test_connect_from_url_tcp": _POOL_INSIDE,
    "test_connection_pool.py::TestConnection::test_connect_from_url_unix": _POOL_INSIDE,
    "test_connection.py::test_connection_default_parser_matches_default_protocol": _CONNECTION,
    "test_connection.py::test_connection_parser_matches_protocol": _CONNECTION,
    "test_connection.py::test_async_hiredis_can_read_uses_buffer_without_reading": _CONNECTION,
    "test_connection.py::test_async_hiredis_can_read_detects_reader_response": _CONNECTION,
    "test_connection.py::test_async_hiredis_can_read_detects_real_stream_reader_buffer": (
        _CONNECTION
    ),
    "test_connection.py::test_async_hiredis_can_read_preserves_reader_response": _CONNECTION,
    "test_connection.py::test_async_hiredis_can_read_does_not_decide_disable_decoding": (
        _CONNECTION
    ),
    "test_connection.py::test_async_hiredis_can_read_leaves_decoding_to_read_response": _CONNECTION,
    "test_connection.py::test_async_resp_can_read_detects_stream_buffer": _CONNECTION,
    "test_connection.py::test_get_resolved_ip_uses_async_writer_peer_before_dns": _CONNECTION,
    "test_connection.py::test_client_setinfo_skipped_with_explicit_none": _CONNECTION,
    "test_connection.py::test_invalid_response": _CONNECTION_INSIDE,
    "test_connection.py::test_single_connection": _MOCKED,
    "test_connection.py::test_socket_param_regression": _CONNECTION,
    "test_connection.py::test_connect_retry_on_timeout_error": _CONNECTION,
    "test_connection.py::test_connect_without_retry_on_non_retryable_error": _CONNECTION,
    "test_connection.py::test_connect_with_retries": _CONNECTION,
    "test_connection.py::test_connect_timeout_error_without_retry": _CONNECTION,
    "test_connection.py::test_connection_parse_response_resume": _CONNECTION,
    "test_connection.py::test_connection_disconect_race": _CONNECTION,
    "test_connection.py::test_client_garbage_collection": _CONNECTION_INSIDE,
    "test_connection.py::test_connection_garbage_collection": _CONNECTION_INSIDE,
    "test_connection.py::test_format_error_message": _CONNECTION,
    "test_connection.py::test_disconnect_no_current_task": _CONNECTION,
    "test_connection.py::test_disconnect_no_current_task_calls_close": _CONNECTION,
}
