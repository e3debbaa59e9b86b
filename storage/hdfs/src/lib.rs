//! The archive store on HDFS.
